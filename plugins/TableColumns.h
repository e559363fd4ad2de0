#ifndef MLTools_NanoML_plugins_TableColumns_h
#define MLTools_NanoML_plugins_TableColumns_h

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "DataFormats/NanoAOD/interface/FlatTable.h"
#include "MLTools/NanoML/interface/Column.h"
#include "MLTools/NanoML/interface/Model.h"

namespace nanoml {

  /// Finds the columns of a model in FlatTables: branch Jet_eta is column eta of a table named Jet, nJet its size.
  ///
  /// Trigger bits are in none, see TriggerBits.
  ///
  /// One object belongs to one stream. The tables must stay as long as the columns that `read` returns are used.
  class TableColumns {
  public:
    using Tables = std::vector<const nanoaod::FlatTable*>;

    /// `requests` must outlive this object. The columns in `corrected` are looked up in other tables than the rest.
    explicit TableColumns(const std::vector<Request>& requests, const std::vector<std::string>& corrected = {});

    /// The columns in the order of the requests. The first event decides which table has which, and later ones are
    /// looked up there. Trigger bits, and columns with a fallback that no table has, are missing.
    ///
    /// Throws Error if another column is in no table, if one is in several, or has one value per object where the model
    /// reads one per event, or the other way round. Sizes are checked by the Scorer.
    std::vector<Column>& read(const Tables& tables, const Tables& correctedTables = {});

  private:
    /// Where a column is.
    struct Place {
      std::size_t table = 0;
      unsigned int column = 0;
      bool counter = false;  ///< the size of the table, not one of its columns
      bool missing = false;
      std::string leaf;  ///< the column's name in the table
    };

    bool isThere(const Place& place, const Tables& tables) const;
    Place find(const Request& request, const Tables& tables) const;
    Column view(const Place& place, std::size_t request, const Tables& tables);

    const std::vector<Request>* requests_;
    std::vector<bool> corrected_;
    std::vector<Place> places_;
    std::vector<Column> columns_;
    std::vector<std::vector<double>> converted_;  // of types that not all releases have
    std::vector<std::uint32_t> counters_;
  };

}  // namespace nanoml

#endif
