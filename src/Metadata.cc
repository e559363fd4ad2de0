#include "MLTools/NanoML/interface/Metadata.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <set>

#include <nlohmann/json.hpp>

#include "MLTools/NanoML/interface/Error.h"

namespace nanoml {

  namespace {
    using nlohmann::json;

    // 1, which had no discriminants, 2, which had no selection inside, and 3, which had no heads, are read as well
    constexpr int kSchema = 4;

    constexpr std::size_t kMost = 1 << 20;  // beyond it, a number of objects or networks is a mistake

    bool startsWith(const std::string& text, const std::string& beginning) {
      return text.compare(0, beginning.size(), beginning) == 0;
    }

    /// An object of the JSON text that knows where it stands, for messages.
    class Entry {
    public:
      Entry(const json& content, std::string where) : content_(content), where_(std::move(where)) {
        if (!content_.is_object())
          fail("is no object");
      }

      [[noreturn]] void fail(const std::string& problem) const {
        throw Error(where_ + ": " + problem + ". Export the model again.");
      }

      bool has(const char* key) const {
        const auto found = content_.find(key);
        return found != content_.end() && !found->is_null();
      }

      const json& at(const char* key) const {
        const auto found = content_.find(key);
        if (found == content_.end())
          fail(std::string("has no `") + key + "`");
        return *found;
      }

      std::string text(const char* key) const {
        if (!at(key).is_string() || at(key).get_ref<const std::string&>().empty())
          fail(std::string("`") + key + "` is no text");
        return at(key).get<std::string>();
      }

      std::string optionalText(const char* key) const { return has(key) ? text(key) : std::string(); }

      std::vector<std::string> texts(const char* key) const {
        std::vector<std::string> found;
        for (const json& item : list(key)) {
          if (!item.is_string() || item.get_ref<const std::string&>().empty())
            fail(std::string("`") + key + "` is no list of names");
          found.push_back(item.get<std::string>());
        }
        if (std::set<std::string>(found.begin(), found.end()).size() != found.size())
          fail(std::string("`") + key + "` has a name twice");
        return found;
      }

      const json& list(const char* key) const {
        if (!at(key).is_array())
          fail(std::string("`") + key + "` is no list");
        return at(key);
      }

      std::size_t count(const char* key) const {
        if (!at(key).is_number_unsigned() || at(key).get<std::size_t>() == 0 || at(key).get<std::size_t>() > kMost)
          fail(std::string("`") + key + "` is no whole number from 1 to " + std::to_string(kMost));
        return at(key).get<std::size_t>();
      }

      bool truth(const char* key) const {
        if (!at(key).is_boolean())
          fail(std::string("`") + key + "` is neither true nor false");
        return at(key).get<bool>();
      }

      const json& object(const char* key) const {
        if (!at(key).is_object())
          fail(std::string("`") + key + "` is no object");
        return at(key);
      }

      Entry child(const char* key) const { return Entry(at(key), where_ + ": " + key); }

      std::vector<Entry> children(const char* key) const {
        std::vector<Entry> found;
        for (const json& item : list(key))
          found.emplace_back(item, where_ + ": " + key + "[" + std::to_string(found.size()) + "]");
        return found;
      }

    private:
      const json& content_;
      std::string where_;
    };

    void parseCollection(const Entry& entry, InputTensor& input) {
      input.mask = entry.text("mask");
      input.collection = entry.text("collection");
      input.max = entry.count("max");
      std::string order = entry.optionalText("order");
      if (!order.empty()) {
        input.descending = order.front() == '-';
        if (input.descending)
          order.erase(0, 1);
        input.order = input.collection + "_" + order;
      }
      for (const std::string& column : input.columns) {
        if (!startsWith(column, input.collection + "_"))
          entry.fail("column " + column + " is not of collection " + input.collection);
      }
    }

    InputTensor parseInput(const Entry& entry) {
      InputTensor input;
      input.tensor = entry.text("tensor");
      input.columns = entry.texts("columns");
      if (input.columns.empty())
        entry.fail("`columns` is empty");
      if (entry.has("mask"))
        parseCollection(entry, input);
      input.selection = entry.optionalText("selection");
      if (entry.has("selection_columns"))
        input.selectionColumns = entry.texts("selection_columns");
      return input;
    }

    float parseNumber(const Entry& entry, const std::string& what, const json& value) {
      if (!value.is_number() || !std::isfinite(value.get<float>()))
        entry.fail(what + " is no number");
      return value.get<float>();
    }

    Parameter parseParameter(const Entry& entry, const std::vector<InputTensor>& inputs) {
      Parameter parameter;
      parameter.column = entry.text("column");
      for (const json& value : entry.list("values"))
        parameter.values.push_back(parseNumber(entry, "one of `values`", value));
      parameter.only = entry.has("only") && entry.truth("only");
      if (parameter.values.empty())
        entry.fail("`values` is empty");
      for (const InputTensor& input : inputs) {
        if (input.mask.empty() && input.columns.back() == parameter.column)
          return parameter;
      }
      entry.fail("`column` " + parameter.column + " is not the last one of the features");
    }

    Discriminant parseDiscriminant(const Entry& entry, const std::vector<std::string>& classes) {
      Discriminant discriminant{entry.text("name"), entry.text("signal"), std::vector<double>(classes.size())};
      for (const auto& [name, value] : entry.object("shares").items()) {
        const auto found = std::find(classes.begin(), classes.end(), name);
        if (found == classes.end())
          entry.fail("`shares` has " + name + ", which is no class");
        const double share = value.is_number() ? value.get<double>() : 0;
        if (!(share > 0) || !std::isfinite(share))
          entry.fail("the share of " + name + " is no number above 0");
        discriminant.shares[found - classes.begin()] = share;
      }
      const auto signal = std::find(classes.begin(), classes.end(), discriminant.signal);
      if (signal == classes.end() || discriminant.shares[signal - classes.begin()] == 0)
        entry.fail("`shares` has no " + discriminant.signal);
      if (std::count(discriminant.shares.begin(), discriminant.shares.end(), 0) + 2 >
          static_cast<std::ptrdiff_t>(classes.size()))
        entry.fail("`shares` has nothing beside " + discriminant.signal);
      return discriminant;
    }

    void parseDiscriminants(const Entry& mean, Metadata& metadata) {
      const std::vector<std::string> classes = metadata.labels;
      for (const Entry& entry : mean.children("discriminants")) {
        metadata.discriminants.push_back(parseDiscriminant(entry, classes));
        const std::string& name = metadata.discriminants.back().name;
        if (std::find(metadata.labels.begin(), metadata.labels.end(), name) != metadata.labels.end())
          entry.fail("`name` " + name + " is there twice");
        metadata.labels.push_back(name);
      }
    }

    void parseHeads(const Entry& mean, Metadata& metadata) {
      for (const Entry& entry : mean.children("heads")) {
        metadata.heads.push_back({entry.text("name"), entry.texts("outputs")});
        for (const std::string& name : metadata.heads.back().outputs) {
          if (std::find(metadata.labels.begin(), metadata.labels.end(), name) != metadata.labels.end())
            entry.fail("`outputs` has " + name + ", which is there twice");
          metadata.labels.push_back(name);
        }
      }
    }

    void parseOutput(const Entry& root, Metadata& metadata) {
      const std::vector<Entry> outputs = root.children("outputs");
      if (outputs.empty())
        root.fail("`outputs` is empty");
      const Entry& mean = outputs.front();
      metadata.output = mean.text("tensor");
      metadata.regression = mean.has("targets");
      metadata.labels = mean.texts(metadata.regression ? "targets" : "classes");
      if (metadata.labels.empty())
        mean.fail(metadata.regression ? "`targets` is empty" : "`classes` is empty");
      if (!metadata.regression && root.at("schema") != 1)
        parseDiscriminants(mean, metadata);
      if (mean.has("heads"))
        parseHeads(mean, metadata);
      metadata.folds = root.child("folds").count("k");
      if (outputs.size() > 1)
        metadata.foldOutput = outputs[1].text("tensor");
    }

    /// numpy's names: f4, float32, i4, int32, u1, uint8, ?, bool.
    NumberKind parseKind(const Entry& entry) {
      const std::string dtype = entry.text("dtype");
      if (dtype == "?" || dtype == "bool" || dtype == "b1")
        return NumberKind::kBool;
      if (dtype == "u1" || dtype == "uint8")
        return NumberKind::kUInt8;
      switch (dtype.front()) {
        case 'u':
          return NumberKind::kUInt32;
        case 'i':
          return NumberKind::kInt32;
        case 'f':
          return NumberKind::kFloat;
        default:
          entry.fail("`dtype` " + dtype + " is no type of a branch");
      }
    }

    std::vector<MadeNumber> parseNumbers(const Entry& entry, const char* key) {
      std::vector<MadeNumber> found;
      for (const Entry& number : entry.children(key))
        found.push_back({number.text("name"), parseKind(number), number.text("title")});
      return found;
    }

    Inside parseInside(const Entry& entry) {
      Inside inside;
      inside.name = entry.text("name");
      const Entry dataset = entry.child("dataset");
      if (dataset.has("era"))
        inside.era = dataset.text("era");
      if (dataset.has("is_data"))
        inside.isData = dataset.truth("is_data");
      inside.cuts = entry.texts("cuts");
      inside.columns = parseNumbers(entry, "columns");
      for (const Entry& collection : entry.children("collections"))
        inside.collections.push_back(
            {collection.text("name"), collection.count("size"), parseNumbers(collection, "fields")});
      for (const auto& [name, value] : entry.object("defaults").items())
        inside.defaults.emplace_back(name, parseNumber(entry, "the value of " + name, value));
      inside.corrected = entry.texts("corrected");
      return inside;
    }

    InputRange parseRange(const Entry& entry) {
      InputRange range;
      range.name = entry.text("name");
      range.low = parseNumber(entry, "`low`", entry.at("low"));
      range.high = parseNumber(entry, "`high`", entry.at("high"));
      for (const json& value : entry.list("missing"))
        range.missing.push_back(parseNumber(entry, "one of `missing`", value));
      range.mayBeMissing = entry.truth("may_be_missing");
      range.outside = parseNumber(entry, "`outside`", entry.at("outside"));
      range.limit = parseNumber(entry, "`limit`", entry.at("limit"));
      return range;
    }

    KnownTensor parseKnown(const Entry& entry) {
      KnownTensor known{entry.text("tensor"), entry.optionalText("mask"), 0, {}};
      if (!known.mask.empty())
        known.size = entry.count("size");
      for (const Entry& input : entry.children("inputs"))
        known.inputs.push_back(parseRange(input));
      return known;
    }

    void parseInputs(const Entry& root, Metadata& metadata) {
      std::set<std::string> tensors;
      std::size_t plain = 0;
      for (const Entry& entry : root.children("inputs")) {
        const InputTensor input = parseInput(entry);
        plain += input.mask.empty();
        if (!tensors.insert(input.tensor).second || (!input.mask.empty() && !tensors.insert(input.mask).second))
          entry.fail("tensor " + input.tensor + " or its mask is there twice");
        if (!metadata.collection.empty() && !input.mask.empty())
          entry.fail("a model that scores objects reads no padded collection");
        metadata.inputs.push_back(input);
      }
      if (metadata.inputs.empty())
        root.fail("`inputs` is empty");
      if (plain > 1)
        root.fail("`inputs` has more than one tensor without a mask");
    }

    Metadata parseRoot(const Entry& root) {
      const json& schema = root.at("schema");
      if (!schema.is_number_integer())
        root.fail("`schema` is no whole number");
      if (schema < 1 || schema > kSchema)
        root.fail("is of schema " + schema.dump() + ", this NanoML reads 1 to " + std::to_string(kSchema) +
                  ": update NanoML, or");
      Metadata metadata;
      metadata.name = root.text("name");
      const std::string level = root.text("level");
      if (level == "object")
        metadata.collection = root.text("collection");
      else if (level != "event")
        root.fail("`level` is neither event nor object");
      parseInputs(root, metadata);
      parseOutput(root, metadata);
      if (root.has("parameter"))
        metadata.parameter = parseParameter(root.child("parameter"), metadata.inputs);
      if (root.has("selection"))
        metadata.inside = parseInside(root.child("selection"));
      if (root.has("domain")) {
        for (const Entry& tensor : root.children("domain"))
          metadata.domain.push_back(parseKnown(tensor));
      }
      if (!metadata.inside && metadata.foldOutput.empty())
        root.fail("`outputs` has no tensor with the result of each fold");
      metadata.onnxHash = root.text("onnx_sha256");
      return metadata;
    }
  }  // namespace

  std::size_t Metadata::classes() const {
    std::size_t count = labels.size() - discriminants.size();
    for (const Head& head : heads)
      count -= head.outputs.size();
    return count;
  }

  std::string Metadata::meaning(std::size_t label) const {
    std::size_t end = labels.size();
    for (auto head = heads.rbegin(); head != heads.rend(); ++head) {
      end -= head->outputs.size();
      if (label >= end)
        return head->name == "targets" ? "regression of " + labels[label] : "output of the head " + head->name;
    }
    const std::size_t classes = this->classes();
    if (label < classes)
      return (regression ? "regression of " : "probability of class ") + labels[label];
    const Discriminant& discriminant = discriminants[label - classes];
    const auto shareOf = [](double share) {
      char text[32];
      std::snprintf(text, sizeof text, " %g", share);
      return std::string(text);
    };
    std::string signal = discriminant.signal, others;
    for (std::size_t i = 0; i < classes; ++i) {
      const double share = discriminant.shares[i];
      if (labels[i] == discriminant.signal)
        signal += share == 1 ? "" : shareOf(share);
      else if (share > 0)
        others += (others.empty() ? "" : ", ") + labels[i] + shareOf(share);
    }
    return signal + " against " + others;
  }

  Metadata Metadata::parse(const std::string& text, const std::string& path) {
    try {
      const json content = json::parse(text);
      return parseRoot(Entry(content, path));
    } catch (const json::exception& problem) {
      throw Error(path + ": is not the JSON that `nanoml export` writes (" + problem.what() +
                  "). Export the model again.");
    }
  }

  Metadata Metadata::load(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
      throw Error(path + ": cannot be opened. `nanoml export` writes it beside the ONNX file: copy both.");
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return parse(text, path);
  }

}  // namespace nanoml
