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

  /// The trigger bits that a model reads: columns HLT_, L1_ and Flag_, which NanoAOD has without the version of a path.
  ///
  /// One object belongs to one stream. It remembers where the bits are in each menu that it has seen.
  class TriggerBits {
  public:
    static bool isBit(const std::string& column);

    /// `requests` must outlive this object.
    explicit TriggerBits(const std::vector<Request>& requests);

    /// Whether the model reads trigger bits.
    bool any() const { return !bits_.empty(); }

    /// Forgets the event before.
    void clear();

    /// Takes the bits that no earlier trigger results of this event have. False, and none is taken, if the menu is new.
    bool add(const edm::TriggerResults& results);

    /// The same of a new menu. `names` are those of its paths.
    void add(const edm::TriggerResults& results, const std::vector<std::string>& names);

    /// The bits that have no value: no menu has them, and either they have no fallback, or this event has no menu with
    /// any path of their kind (HLT, L1, Flag), so nobody knows whether they fired. Empty if there are none.
    std::string unknown() const;

    /// Sets the bits among the columns of a model; those that no menu has are missing.
    void fill(std::vector<Column>& columns) const;

  private:
    struct Bit {
      std::size_t request;
      unsigned kind;
      std::uint8_t value = 0;
      bool found = false;
    };
    /// Where the bits are in a menu; -1: nowhere.
    struct Menu {
      edm::ParameterSetID id;
      std::vector<std::string> names;  ///< of results that bring names along, as those of L1; then the ID says nothing
      std::vector<int> paths;
      unsigned kinds;  ///< a bit for each kind of path that it has
    };

    const std::vector<Request>* requests_;
    std::vector<Bit> bits_;
    std::vector<Menu> menus_;
    unsigned kinds_ = 0;  // of all menus of this event
  };

}  // namespace nanoml

#endif
