#ifndef MLTools_NanoML_test_framework_h
#define MLTools_NanoML_test_framework_h

// Stands in for all headers of CMSSW's framework that the plugins include, so that they can be run where CMSSW is not:
// as much of their interface as is used, without a scheduler. Each of those headers includes this file (see the
// Makefile).

#include <any>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <typeindex>
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
    const std::string& instance() const { return instance_; }
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

  struct EDGetToken {
    std::string label;  // with the instance: "label:instance"
  };
  template <typename T>
  struct EDGetTokenT : EDGetToken {};
  template <typename T>
  struct EDPutTokenT {
    std::string instance;
  };

  template <typename T>
  class Handle {
  public:
    explicit Handle(const T* product = nullptr) : product_(product) {}
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
    TriggerNames(std::vector<std::string> names = {}) : names_(std::move(names)) {}
    const std::vector<std::string>& triggerNames() const { return names_; }

  private:
    std::vector<std::string> names_;
  };

  namespace hlt {
    enum HLTState { Fail, Pass };
  }
  using HLTPathStatus = hlt::HLTState;
  using HLTGlobalStatus = std::vector<HLTPathStatus>;

  class TriggerResults {
  public:
    template <typename Menu>  // its ID, or the names
    TriggerResults(const HLTGlobalStatus& status, const Menu& menu)
        : TriggerResults(menu, std::vector<bool>(status.begin(), status.end())) {}
    TriggerResults(ParameterSetID menu, std::vector<bool> bits) : menu_(std::move(menu)), bits_(std::move(bits)) {}
    TriggerResults(std::vector<std::string> names, std::vector<bool> bits)
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
    T getUntrackedParameter(const std::string& name) const {
      return getParameter<T>(name);
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
    const std::map<std::string, std::any>& values() const { return values_; }

    /// Of trigger paths only, which are all that is registered.
    ParameterSetID id() const {
      std::string all;
      for (const std::string& path : getParameter<std::vector<std::string>>("@trigger_paths"))
        all += path + " ";
      return all;
    }
    void registerIt() const { registered()[id()] = getParameter<std::vector<std::string>>("@trigger_paths"); }
    static std::map<ParameterSetID, TriggerNames>& registered() {
      static std::map<ParameterSetID, TriggerNames> all;
      return all;
    }

  private:
    std::map<std::string, std::any> values_;
  };

  /// Keeps the types of all parameters, and the values that they have if a configuration does not set them.
  class ParameterSetDescription {
  public:
    struct Node {
      void setComment(const std::string&) {}
    };
    void setComment(const std::string&) {}
    template <typename T>
    Node* add(const std::string& name) {
      types_.emplace(name, typeid(T));
      return &node_;
    }
    template <typename T, typename Value = T>
    Node* add(const std::string& name, const Value& value) {
      using Kept = std::conditional_t<std::is_same_v<T, ParameterSetDescription>, ParameterSet, T>;
      defaults_.addParameter<Kept>(name, value);
      return add<Kept>(name);
    }
    template <typename T, typename... Value>
    Node* addUntracked(const std::string& name, const Value&... value) {
      return add<T>(name, value...);
    }
    template <typename T>
    void addWildcard(const std::string&) {}
    operator ParameterSet() const { return defaults_; }  ///< as a parameter

    /// What a configuration sets, which must be described, and the defaults.
    ParameterSet completed(const ParameterSet& given) const {
      ParameterSet all = defaults_;
      for (const auto& [name, value] : given.values()) {
        const auto found = types_.find(name);
        if (found == types_.end() || found->second != value.type())
          throw cms::Exception("Configuration", name + " is no parameter, or is one of another type");
        all.addParameter(name, value);
      }
      return all;
    }

  private:
    ParameterSet defaults_;
    std::map<std::string, std::type_index> types_;
    Node node_;
  };

  class ConfigurationDescriptions {
  public:
    void addWithDefaultLabel(const ParameterSetDescription& given) { description = given; }
    void addDefault(const ParameterSetDescription& given) { description = given; }
    ParameterSetDescription description;
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

    /// Sets the label of the module that runs now.
    void runs(const std::string& label) { label_ = label; }

    template <typename T, typename... Arguments>
    void emplace(const EDPutTokenT<T>& token, Arguments&&... arguments) {
      products_.insert_or_assign(label_ + ":" + token.instance, T(std::forward<Arguments>(arguments)...));
      provenance_.push_back({std::is_same_v<T, TriggerResults> ? "edm::TriggerResults" : "another", label_});
    }
    void getAllStableProvenance(std::vector<const StableProvenance*>& found) const {
      for (const StableProvenance& each : provenance_)
        found.push_back(&each);
    }

    template <typename T>
    const T& get(const EDGetTokenT<T>& token) const {
      if (const Handle<T> found = getHandle(token); found.isValid())
        return *found;
      throw cms::Exception("ProductNotFound", token.label);
    }
    template <typename T>
    Handle<T> getHandle(const EDGetTokenT<T>& token) const {
      Handle<T> found;
      getByToken(token, found);
      return found;
    }
    template <typename T>
    void getByToken(const EDGetToken& token, Handle<T>& handle) const {
      const auto found = products_.find(token.label);
      handle = Handle<T>(found == products_.end() ? nullptr : std::any_cast<T>(&found->second));
    }
    const TriggerNames& triggerNames(const TriggerResults& results) const {
      return ParameterSet::registered().at(results.parameterSetID());
    }

    /// The products that a file of NanoAOD has of these modules, "keep *_*ScoreTable_*_*".
    std::vector<std::pair<const void*, EDGetToken>> kept() const {
      std::vector<std::pair<const void*, EDGetToken>> tokens;
      for (const auto& product : products_) {
        if (product.first.find("ScoreTable:") != std::string::npos)
          tokens.emplace_back(nullptr, EDGetToken{product.first});
      }
      return tokens;
    }

  private:
    EventID id_;
    bool isRealData_;
    std::string label_;
    std::map<std::string, std::any> products_;
    std::vector<StableProvenance> provenance_;
  };
  using EventForOutput = Event;
  class LuminosityBlockForOutput {};
  class RunForOutput {};
  enum BranchType { InEvent };

  class Module {
  public:
    virtual ~Module() = default;
    virtual bool run(Event&) = 0;  ///< whether the path goes on
    virtual void end() {}

  protected:
    template <typename T>
    EDGetTokenT<T> consumes(const InputTag& tag) {
      return {{tag.label() + ":" + tag.instance()}};
    }
    template <typename T>
    EDPutTokenT<T> produces(const std::string& instance = "") {
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
  using LogAbsolute = Log<2>;

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
      bool run(Event& event) override { return produce(event, {}), true; }
      void end() override { endStream(); }
      const typename Cache::Shared* globalCache() const { return shared; }
      const typename Cache::Shared* shared = nullptr;
    };
  }  // namespace stream

  namespace global {
    template <typename... Abilities>
    class EDProducer : public Module {
    public:
      virtual void produce(StreamID, Event&, const EventSetup&) const = 0;
      bool run(Event& event) override { return produce({}, event, {}), true; }
    };

    template <typename... Abilities>
    class EDFilter : public Module {
    public:
      virtual bool filter(StreamID, Event&, const EventSetup&) const = 0;
      bool run(Event& event) override { return filter({}, event, {}); }
    };
  }  // namespace global

  namespace one {
    struct OutputModuleBase {
      explicit OutputModuleBase(const ParameterSet&) {}
    };

    template <typename... Abilities>
    class OutputModule : public virtual OutputModuleBase, public Module {
    public:
      explicit OutputModule(const ParameterSet& config) : OutputModuleBase(config) {}
      virtual void write(const EventForOutput&) = 0;
      virtual void writeLuminosityBlock(const LuminosityBlockForOutput&) = 0;
      virtual void writeRun(const RunForOutput&) = 0;
      virtual void endJob() {}
      bool run(Event& event) override {
        kept_[InEvent] = event.kept();
        return write(event), true;
      }
      void end() override { endJob(); }
      static void fillDescription(ParameterSetDescription& description, const std::vector<std::string>&) {
        description.add<ParameterSet>("SelectEvents");
      }
      const auto& keptProducts() const { return kept_; }

    private:
      std::vector<std::pair<const void*, EDGetToken>> kept_[1];
    };
  }  // namespace one

  /// What a job has of a module: one object, or with a cache one for each of its two streams.
  struct Worker {
    std::vector<std::shared_ptr<Module>> streams;
    std::function<void()> end = [] {};
  };

  template <typename T>
  auto workerOf(const ParameterSet& config, int) -> decltype(T::initializeGlobalCache(config), Worker()) {
    const std::shared_ptr shared = T::initializeGlobalCache(config);
    Worker worker{{}, [shared] { T::globalEndJob(shared.get()); }};
    for (int stream = 0; stream < 2; ++stream) {
      const auto module = std::make_shared<T>(config, shared.get());
      module->shared = shared.get();
      worker.streams.push_back(module);
    }
    return worker;
  }
  template <typename T>
  Worker workerOf(const ParameterSet& config, long) {
    return {{std::make_shared<T>(config)}};
  }

  /// Makes a module of a type with the parameters that a configuration sets.
  using Maker = std::function<Worker(const ParameterSet&)>;
  inline std::map<std::string, Maker>& makers() {
    static std::map<std::string, Maker> all;
    return all;
  }
  template <typename T>
  bool defined(const std::string& type) {
    makers()[type] = [](const ParameterSet& given) {
      ConfigurationDescriptions descriptions;
      T::fillDescriptions(descriptions);
      return workerOf<T>(descriptions.description.completed(given), 0);
    };
    return true;
  }
}  // namespace edm

#define DEFINE_FWK_MODULE(type) static const bool defined##type = edm::defined<type>(#type)

#endif
