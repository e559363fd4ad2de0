#include "TriggerBits.h"

#include "MLTools/NanoML/interface/Error.h"

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
  }  // namespace

  bool TriggerBits::isBit(const std::string& column) {
    for (const char* prefix : {"HLT_", "L1_", "Flag_"}) {
      if (column.rfind(prefix, 0) == 0)
        return true;
    }
    return false;
  }

  TriggerBits::TriggerBits(const std::vector<Request>& requests, std::size_t menus)
      : requests_(&requests), places_(menus) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (isBit(requests[i].name))
        bits_.push_back({i});
    }
  }

  void TriggerBits::clear() {
    for (Bit& bit : bits_)
      bit.found = false;
  }

  void TriggerBits::add(std::size_t menu, const edm::TriggerResults& results, const std::vector<std::string>& names) {
    Places& places = places_[menu];
    if (places.paths.empty() || places.menu != names) {
      places.menu = names;
      places.paths.assign(bits_.size(), -1);
      for (std::size_t path = 0; path < names.size(); ++path) {
        const std::string name = withoutVersion(names[path]);
        for (std::size_t i = 0; i < bits_.size(); ++i) {
          if (name == (*requests_)[bits_[i].request].name)
            places.paths[i] = path;
        }
      }
    }
    for (std::size_t i = 0; i < bits_.size(); ++i) {
      if (bits_[i].found || places.paths[i] < 0)
        continue;
      bits_[i].value = results.accept(places.paths[i]);
      bits_[i].found = true;
    }
  }

  void TriggerBits::fill(std::vector<Column>& columns) const {
    for (const Bit& bit : bits_) {
      const Request& request = (*requests_)[bit.request];
      if (!bit.found && !request.fallback)
        throw Error("no trigger results have " + request.name + (places_.empty() ? ": name some in `triggers`." : "."));
      columns[bit.request] = bit.found ? Column(&bit.value, 1) : Column();
    }
  }

}  // namespace nanoml
