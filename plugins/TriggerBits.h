#ifndef MLTools_NanoML_plugins_TriggerBits_h
#define MLTools_NanoML_plugins_TriggerBits_h

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "DataFormats/Common/interface/TriggerResults.h"
#include "MLTools/NanoML/interface/Column.h"
#include "MLTools/NanoML/interface/Model.h"

namespace nanoml {

  /// The trigger bits that a model reads: columns HLT_, L1_ and Flag_, which NanoAOD has without the version of the
  /// path.
  ///
  /// One object belongs to one stream.
  class TriggerBits {
  public:
    static bool isBit(const std::string& column);

    /// `requests` must outlive this object. There are `menus` sets of trigger results in an event, or fewer.
    TriggerBits(const std::vector<Request>& requests, std::size_t menus);

    /// Whether the model reads trigger bits.
    bool any() const { return !bits_.empty(); }

    /// Forgets the event before.
    void clear();

    /// Takes the bits that no earlier menu of this event has. `names` are those of its paths.
    void add(std::size_t menu, const edm::TriggerResults& results, const std::vector<std::string>& names);

    /// Sets the bits among the columns of a model. Those without a fallback must be there.
    ///
    /// Throws Error that names a bit that no menu has.
    void fill(std::vector<Column>& columns) const;

  private:
    struct Bit {
      std::size_t request;
      std::uint8_t value = 0;
      bool found = false;
    };
    /// Where the bits are in a menu, until that changes; -1: nowhere.
    struct Places {
      std::vector<std::string> menu;
      std::vector<int> paths;
    };

    const std::vector<Request>* requests_;
    std::vector<Bit> bits_;
    std::vector<Places> places_;
  };

}  // namespace nanoml

#endif
