#include "ScoreTables.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

#include "MLTools/NanoML/interface/Error.h"

namespace nanoml {

  using nanoaod::FlatTable;

  namespace {
    /// The label of a product may have letters and digits only.
    std::string labelOf(std::string name) {
      const auto other = [](unsigned char letter) { return !std::isalnum(letter); };
      name.erase(std::remove_if(name.begin(), name.end(), other), name.end());
      return name;
    }

    // FlatTable copies them, and a literal would become a string in each event
    const std::string kFailedDoc =
        "if not 0, nothing is known of the event: 1, the selection has no result; 2, there are too many objects";
    const std::string kCutsDoc = "number of cuts that the event passes, one after the other";
    const std::string kCorrectedDoc = "the selection has read corrected objects";
  }  // namespace

  std::string suffixOf(const std::string& column, float value) {
    char text[32];
    int digits = 6;
    do {
      std::snprintf(text, sizeof text, "%.*g", digits, value);
    } while (std::strtof(text, nullptr) != value && ++digits < 10);
    std::string suffix = text;
    for (char& letter : suffix)
      letter = letter == '.' ? 'p' : letter == '-' ? 'm' : letter;
    suffix.erase(std::remove(suffix.begin(), suffix.end(), '+'), suffix.end());
    return column + suffix;
  }

  ScoreTables::ScoreTables(const Metadata& metadata, const std::vector<float>& parameters, Options options)
      : metadata_(metadata),
        options_(std::move(options)),
        doc_(metadata.inside ? "decision of " + metadata.inside->name + " and scores of " + metadata.name : ""),
        passedDoc_(metadata.inside ? "the event passes " + metadata.inside->name : ""),
        instances_{""} {
    addOutputs(parameters);
    checkPrecisions();
    if (!metadata.inside)
      return;
    if (!metadata.inside->columns.empty())
      instances_.push_back("selection");
    for (const MadeCollection& collection : metadata.inside->collections) {
      instances_.push_back(labelOf(collection.name));
      values_.reserve(collection.size);
    }
  }

  void ScoreTables::addOutputs(const std::vector<float>& parameters) {
    // a branch is called TABLE_COLUMN, and the table of events has the name of the model
    const std::string prefix = metadata_.collection.empty() ? "" : metadata_.name + "_";
    const std::string network = metadata_.folds == 1 ? ""
                                : options_.mean      ? ", mean of all networks"
                                                     : ", by the network of the event's fold";
    for (std::size_t parameter = 0; parameter < std::max<std::size_t>(parameters.size(), 1); ++parameter) {
      const std::string suffix = parameters.empty() ? "" : suffixOf(metadata_.parameter->column, parameters[parameter]);
      for (std::size_t label = 0; label < metadata_.labels.size(); ++label) {
        std::string doc = metadata_.meaning(label) + " by " + metadata_.name;
        doc += (suffix.empty() ? "" : " for " + suffix) + network;
        if (metadata_.inside)
          doc += "; NaN for events that do not pass";
        outputs_.push_back(
            {prefix + metadata_.labels[label] + (suffix.empty() ? "" : "_" + suffix), doc, parameter, label});
      }
    }
  }

  void ScoreTables::checkPrecisions() const {
    std::set<std::string> floats;
    const auto add = [&](const std::vector<MadeNumber>& numbers) {
      for (const MadeNumber& number : numbers) {
        if (number.kind == NumberKind::kFloat)
          floats.insert(number.name);
      }
    };
    for (const Output& output : outputs_)
      floats.insert(output.name);
    if (metadata_.inside) {
      add(metadata_.inside->columns);
      for (const MadeCollection& collection : metadata_.inside->collections)
        add(collection.fields);
    }
    std::string known;
    for (const std::string& name : floats)
      known += (known.empty() ? "" : ", ") + name;
    for (const auto& [column, bits] : options_.precisions) {
      if (!floats.count(column))
        throw Error("`precisions` has " + column + ", but " + metadata_.name + " makes no such column of floats, but " +
                    known + ".");
    }
  }

  int ScoreTables::precisionOf(const std::string& column) const {
    const auto found = options_.precisions.find(column);
    return found == options_.precisions.end() ? options_.precision : found->second;
  }

  FlatTable ScoreTables::table(std::size_t product, const Scores& scores, const Decision& decision) {
    if (product == 0)
      return scoreTable(scores, decision);
    const std::size_t firstCollection = instances_.size() - metadata_.inside->collections.size();
    return product < firstCollection ? columnTable(decision) : collectionTable(product - firstCollection, decision);
  }

  FlatTable ScoreTables::scoreTable(const Scores& scores, const Decision& decision) {
    const bool ofEvents = metadata_.collection.empty(), passed = decision.passed() && !decision.failed();
    FlatTable table(scores.rows(), ofEvents ? metadata_.name : metadata_.collection, ofEvents, !ofEvents);
    if (metadata_.inside) {
      table.setDoc(doc_);
      table.addColumnValue<bool>("passed", passed, passedDoc_);
      table.addColumnValue<std::uint8_t>("failed", decision.failed(), kFailedDoc);
      table.addColumnValue<std::uint8_t>("cuts", decision.failed() ? 0 : decision.cuts(), kCutsDoc);
      if (!metadata_.inside->corrected.empty())
        table.addColumnValue<bool>("corrected", options_.corrected, kCorrectedDoc);
    }
    values_.resize(scores.rows());
    for (const Output& output : outputs_) {
      for (std::size_t row = 0; row < values_.size(); ++row)
        values_[row] = passed ? scores.at(output.parameter, row, output.label) : kNoScore;
      table.addColumn<float>(output.name, values_, output.doc, precisionOf(output.name));
    }
    return table;
  }

  FlatTable ScoreTables::columnTable(const Decision& decision) {
    FlatTable table(1, "", true);
    const std::vector<MadeNumber>& columns = metadata_.inside->columns;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      values_.assign(1, decision.failed() ? 0.f : decision.column(i));
      add(table, columns[i]);
    }
    return table;
  }

  FlatTable ScoreTables::collectionTable(std::size_t collection, const Decision& decision) {
    const MadeCollection& made = metadata_.inside->collections[collection];
    values_.resize(decision.failed() ? 0 : decision.objects(collection));
    FlatTable table(values_.size(), made.name, false);
    for (std::size_t field = 0; field < made.fields.size(); ++field) {
      for (std::size_t object = 0; object < values_.size(); ++object)
        values_[object] = decision.object(collection, object, field);
      add(table, made.fields[field]);
    }
    return table;
  }

  void ScoreTables::add(FlatTable& table, const MadeNumber& number) const {
    switch (number.kind) {
      case NumberKind::kBool:
        return table.addColumn<bool>(number.name, values_, number.title);
      case NumberKind::kUInt8:
        return table.addColumn<std::uint8_t>(number.name, values_, number.title);
      case NumberKind::kInt32:
        return table.addColumn<std::int32_t>(number.name, values_, number.title);
      case NumberKind::kUInt32:
        return table.addColumn<std::uint32_t>(number.name, values_, number.title);
      case NumberKind::kFloat:
        return table.addColumn<float>(number.name, values_, number.title, precisionOf(number.name));
    }
  }

}  // namespace nanoml
