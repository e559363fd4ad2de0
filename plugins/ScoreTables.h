#ifndef MLTools_NanoML_plugins_ScoreTables_h
#define MLTools_NanoML_plugins_ScoreTables_h

#include <cstddef>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "DataFormats/NanoAOD/interface/FlatTable.h"
#include "MLTools/NanoML/interface/Metadata.h"
#include "MLTools/NanoML/interface/Scorer.h"

namespace nanoml {

  /// The end of a branch's name for a value of the parameter: mass600, mass0p5, with as many digits as tell it from
  /// others.
  std::string suffixOf(const std::string& column, float value);

  /// Writes what a model says of an event into FlatTables. One object belongs to one stream.
  ///
  /// The first one has the scores: it is named after the model, or an extension of the collection whose objects are
  /// scored. A selection inside the model adds whether the event has passed, why it failed and how many cuts it has
  /// passed to that table, and makes further ones: one of its columns, under their own names, and one for each of its
  /// collections.
  class ScoreTables {
  public:
    /// Choices of the user.
    struct Options {
      bool mean = false;                           ///< scores are the mean of all networks
      bool corrected = false;                      ///< the columns that a selection wants corrected are
      int precision = -1;                          ///< bits of the mantissa that floats keep; -1: all
      std::map<std::string, int> precisions = {};  ///< the same of single columns
    };

    /// The score of an event that does not pass, or fails; as in files that Python scores.
    static constexpr float kNoScore = std::numeric_limits<float>::quiet_NaN();

    /// `metadata` must outlive this object.
    ///
    /// Throws Error if `options` has the precision of a column that there is not.
    ScoreTables(const Metadata& metadata, const std::vector<float>& parameters, Options options);

    /// Labels of the products, in the order of the tables; that of the first is empty.
    const std::vector<std::string>& instances() const { return instances_; }

    /// The table of a product, by the number of its label.
    nanoaod::FlatTable table(std::size_t product, const Scores& scores, const Decision& decision);

  private:
    /// A column: a label, for one value of the parameter.
    struct Output {
      std::string name, doc;
      std::size_t parameter, label;
    };

    void addOutputs(const std::vector<float>& parameters);
    void checkPrecisions() const;
    int precisionOf(const std::string& column) const;
    nanoaod::FlatTable scoreTable(const Scores& scores, const Decision& decision);
    nanoaod::FlatTable columnTable(const Decision& decision);
    nanoaod::FlatTable collectionTable(std::size_t collection, const Decision& decision);
    void add(nanoaod::FlatTable& table, const MadeNumber& number) const;

    const Metadata& metadata_;
    const Options options_;
    const std::string doc_, passedDoc_;
    std::vector<Output> outputs_;
    std::vector<std::string> instances_;
    std::vector<float> values_;  // of the column that is added
  };

}  // namespace nanoml

#endif
