#ifndef MLTools_NanoML_test_framework_h
#define MLTools_NanoML_test_framework_h

// Stands in for all headers of CMSSW's framework that the plugins include, so that they can be run where CMSSW is not:
// as much of their interface as is used, without a scheduler. Each of those headers includes this file (see the
// Makefile).

#include <any>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cms {
  class Exception : public std::runtime_error {
  public:
    Exception(const std::string& category, const std::string& message)
        : std::runtime_error(category + ": " + message) {}
  };
}  // namespace cms

namespace edm {
  class InputTag {
  public:
    InputTag(std::string label = "", std::string instance = "", std::string process = "")
        : label_(std::move(label)), instance_(std::move(instance)), process_(std::move(process)) {}
    InputTag(const char* label) : label_(label) {}
    const std::string& label() const { return label_; }
    std::string encode() const {
      return label_ + (instance_.empty() && process_.empty() ? "" : ":" + instance_) +
             (process_.empty() ? "" : ":" + process_);
    }

  private:
    std::string label_, instance_, process_;
  };

  /// Where a product comes from.
  struct StableProvenance {
    std::string type, label;
    const std::string& className() const { return type; }
    const std::string& moduleLabel() const { return label; }
    std::string productInstanceName() const { return ""; }
    std::string processName() const { return "TEST"; }
  };

  template <typename T>
  struct EDGetTokenT {
    std::string label;
  };
  template <typename T>
  struct EDPutTokenT {
    std::string instance;
  };

  template <typename T>
  class Handle {
  public:
    explicit Handle(const T* product) : product_(product) {}
    bool isValid() const { return product_; }
    const T& operator*() const { return *product_; }
    const T* operator->() const { return product_; }

  private:
    const T* product_;
  };

  using ParameterSetID = std::string;
  class EventSetup {};
  class StreamID {};

  class TriggerNames {
  public:
    TriggerNames(std::vector<std::string> names) : names_(std::move(names)) {}
    const std::vector<std::string>& triggerNames() const { return names_; }

  private:
    std::vector<std::string> names_;
  };

  class TriggerResults {
  public:
    TriggerResults(ParameterSetID menu, std::vector<bool> bits) : menu_(std::move(menu)), bits_(std::move(bits)) {}
    TriggerResults(std::vector<bool> bits, std::vector<std::string> names)
        : bits_(std::move(bits)), names_(std::move(names)) {}
    bool accept(unsigned int path) const { return bits_.at(path); }
    unsigned int size() const { return bits_.size(); }
    const ParameterSetID& parameterSetID() const { return menu_; }
    const std::vector<std::string>& getTriggerNames() const { return names_; }

  private:
    ParameterSetID menu_;
    std::vector<bool> bits_;
    std::vector<std::string> names_;
  };

  class FileInPath {
  public:
    FileInPath(std::string path = "") : path_(std::move(path)) {}
    const std::string& fullPath() const { return path_; }

  private:
    std::string path_;
  };

  class ParameterSet {
  public:
    template <typename T>
    T getParameter(const std::string& name) const {
      return std::any_cast<T>(values_.at(name));
    }
    template <typename T>
    std::vector<std::string> getParameterNamesForType() const {
      std::vector<std::string> names;
      for (const auto& [name, value] : values_) {
        if (value.type() == typeid(T))
          names.push_back(name);
      }
      return names;
    }
    template <typename T>
    void addParameter(const std::string& name, T value) {
      values_[name] = std::move(value);
    }

  private:
    std::map<std::string, std::any> values_;
  };

  /// Keeps the values that parameters have if a configuration does not set them.
  class ParameterSetDescription {
  public:
    struct Node {
      void setComment(const std::string&) {}
    };
    void setComment(const std::string&) {}
    template <typename T>
    Node* add(const std::string&) {
      return &node_;
    }
    template <typename T, typename Value = T>
    Node* add(const std::string& name, const Value& value) {
      if constexpr (std::is_same_v<T, ParameterSetDescription>)
        defaults.addParameter(name, value.defaults);
      else
        defaults.addParameter<T>(name, value);
      return &node_;
    }
    template <typename T>
    void addWildcard(const std::string&) {}

    ParameterSet defaults;

  private:
    Node node_;
  };

  class ConfigurationDescriptions {
  public:
    void addWithDefaultLabel(const ParameterSetDescription& description) { defaults = description.defaults; }
    ParameterSet defaults;
  };

  class EventID {
  public:
    EventID(unsigned int run, unsigned int block, std::uint64_t event) : run_(run), block_(block), event_(event) {}
    unsigned int run() const { return run_; }
    unsigned int luminosityBlock() const { return block_; }
    std::uint64_t event() const { return event_; }

  private:
    unsigned int run_, block_;
    std::uint64_t event_;
  };

  class Event {
  public:
    explicit Event(EventID id, bool isRealData = false) : id_(id), isRealData_(isRealData) {}
    const EventID& id() const { return id_; }
    bool isRealData() const { return isRealData_; }

    template <typename T>
    void add(const std::string& label, T product) {
      products_[label] = std::move(product);
      provenance_.push_back({std::is_same_v<T, TriggerResults> ? "edm::TriggerResults" : "another", label});
    }
    void getAllStableProvenance(std::vector<const StableProvenance*>& found) const {
      for (const StableProvenance& each : provenance_)
        found.push_back(&each);
    }
    void addMenu(const ParameterSetID& menu, const std::vector<std::string>& names) { menus_.emplace(menu, names); }

    template <typename T>
    const T& get(const EDGetTokenT<T>& token) const {
      if (const Handle<T> found = getHandle(token); found.isValid())
        return *found;
      throw cms::Exception("ProductNotFound", token.label);
    }
    template <typename T>
    Handle<T> getHandle(const EDGetTokenT<T>& token) const {
      const auto found = products_.find(token.label);
      return Handle<T>(found == products_.end() ? nullptr : std::any_cast<T>(&found->second));
    }
    const TriggerNames& triggerNames(const TriggerResults& results) const {
      return menus_.at(results.parameterSetID());
    }

    template <typename T>
    void emplace(const EDPutTokenT<T>& token, T&& product) {
      products_["made:" + token.instance] = std::move(product);
    }
    template <typename T>
    const T* made(const std::string& instance) const {
      const auto found = products_.find("made:" + instance);
      return found == products_.end() ? nullptr : std::any_cast<T>(&found->second);
    }

  private:
    EventID id_;
    bool isRealData_;
    std::map<std::string, std::any> products_;
    std::vector<StableProvenance> provenance_;
    std::map<ParameterSetID, TriggerNames> menus_;
  };

  class Module {
  public:
    virtual ~Module() = default;

  protected:
    template <typename T>
    EDGetTokenT<T> consumes(const InputTag& tag) {
      return {tag.label()};
    }
    template <typename T>
    EDPutTokenT<T> produces(const std::string& instance) {
      return {instance};
    }
  };

  /// Messages are kept, each with its category.
  template <int Level>
  struct Log {
    explicit Log(const std::string& category) { said().push_back(category + ": "); }
    Log& operator<<(const std::string& text) {
      said().back() += text;
      return *this;
    }
    static std::vector<std::string>& said() {
      static std::vector<std::string> all;
      return all;
    }
  };
  using LogInfo = Log<0>;
  using LogWarning = Log<1>;

  template <typename T>
  struct GlobalCache {
    using Shared = T;
  };

  namespace stream {
    template <typename Cache>
    class EDProducer : public Module {
    public:
      virtual void produce(Event&, const EventSetup&) = 0;
      virtual void endStream() {}
      const typename Cache::Shared* globalCache() const { return shared; }
      const typename Cache::Shared* shared = nullptr;
    };
  }  // namespace stream

  namespace global {
    template <typename... Abilities>
    class EDFilter : public Module {
    public:
      virtual bool filter(StreamID, Event&, const EventSetup&) const = 0;
    };
  }  // namespace global
}  // namespace edm

#define DEFINE_FWK_MODULE(type)

#endif
