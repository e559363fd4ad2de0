#include "TriggerBits.h"

#include <algorithm>
#include <utility>

namespace nanoml {

  namespace {
    /// The name of a path as NanoAOD has it: only those of HLT and L1 have versions.
    std::string withoutVersion(const std::string& path) {
      const std::size_t version = path.rfind("_v");
      const bool versioned = (path.compare(0, 3, "HLT") == 0 || path.compare(0, 2, "L1") == 0) &&
                             version != std::string::npos && version + 2 < path.size() &&
                             path.find_first_not_of("0123456789", version + 2) == std::string::npos;
      return versioned ? path.substr(0, version) : path;
    }

    /// A bit for the kind of a path or column; 0 for others.
    unsigned kindOf(const std::string& name) {
      unsigned kind = 1;
      for (const char* prefix : {"HLT_", "L1_", "Flag_"}) {
        if (name.rfind(prefix, 0) == 0)
          return kind;
        kind <<= 1;
      }
      return 0;
    }
  }  // namespace

  bool TriggerBits::isBit(const std::string& column) { return kindOf(column); }

  TriggerBits::TriggerBits(const std::vector<Request>& requests) : requests_(&requests) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (isBit(requests[i].name))
        bits_.push_back({i, kindOf(requests[i].name)});
    }
  }

  void TriggerBits::clear() {
    kinds_ = 0;
    for (Bit& bit : bits_)
      bit.found = false;
  }

  bool TriggerBits::add(const edm::TriggerResults& results) {
    const auto menu = std::find_if(menus_.begin(), menus_.end(), [&](const Menu& known) {
      return known.id == results.parameterSetID() && known.names == results.getTriggerNames();
    });
    if (menu == menus_.end())
      return false;
    kinds_ |= menu->kinds;
    for (std::size_t i = 0; i < bits_.size(); ++i) {
      if (bits_[i].found || menu->paths[i] < 0)
        continue;
      bits_[i].value = results.accept(menu->paths[i]);
      bits_[i].found = true;
    }
    return true;
  }

  void TriggerBits::add(const edm::TriggerResults& results, const std::vector<std::string>& names) {
    Menu menu{results.parameterSetID(), results.getTriggerNames(), std::vector<int>(bits_.size(), -1), 0};
    for (std::size_t path = 0; path < names.size(); ++path) {
      const std::string name = withoutVersion(names[path]);
      menu.kinds |= kindOf(name);
      for (std::size_t i = 0; i < bits_.size(); ++i) {
        if (name == (*requests_)[bits_[i].request].name)
          menu.paths[i] = path;
      }
    }
    menus_.push_back(std::move(menu));
    add(results);
  }

  std::string TriggerBits::unknown() const {
    std::string names;
    for (const Bit& bit : bits_) {
      const Request& request = (*requests_)[bit.request];
      if (!bit.found && !(request.fallback && (kinds_ & bit.kind)))
        names += (names.empty() ? "" : ", ") + request.name;
    }
    return names;
  }

  void TriggerBits::fill(std::vector<Column>& columns) const {
    for (const Bit& bit : bits_)
      columns[bit.request] = bit.found ? Column(&bit.value, 1) : Column();
  }

}  // namespace nanoml
