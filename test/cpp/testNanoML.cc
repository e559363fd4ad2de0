// What needs no model: hashes, metadata, and the choice of objects.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "Check.h"
#include "MLTools/NanoML/interface/Fold.h"
#include "MLTools/NanoML/interface/Metadata.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Objects.h"
#include "MLTools/NanoML/interface/Sha256.h"

using nanoml::Column;
using nanoml::Metadata;

namespace {
  using Rows = std::vector<std::uint32_t>;

  std::string hashOf(const std::string& text, std::size_t piece) {
    nanoml::Sha256 hash;
    for (std::size_t i = 0; i < text.size(); i += piece)
      hash.update(text.data() + i, std::min(piece, text.size() - i));
    return hash.finish();
  }

  void testHash() {
    // the examples of the standard
    CHECK(hashOf("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hashOf("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK(hashOf(two, 56) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const std::string many(1'000'000, 'a');
    for (const std::size_t piece : {1'000'000, 64, 63, 1})
      CHECK(hashOf(many, piece) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    checkThrows([] { nanoml::fileHash("/nowhere"); }, "/nowhere", "cannot be opened");
  }

  template <typename T>
  Rows sorted(const std::vector<T>& values, bool descending, std::size_t max = 100) {
    Rows rows;
    nanoml::sortObjects(Column(values.data(), values.size()), descending, max, rows);
    return rows;
  }

  void testOrder() {
    const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
    CHECK((sorted<float>({}, true) == Rows{}));
    CHECK((sorted<float>({3, 1, 2}, true) == Rows{0, 2, 1}));
    CHECK((sorted<float>({3, 1, 2}, false) == Rows{1, 2, 0}));
    CHECK((sorted<float>({1, 3, 1, 3, 1}, true) == Rows{1, 3, 0, 2, 4}));
    CHECK((sorted<float>({1, 3, 1, 3, 1}, true, 3) == Rows{1, 3, 0}));
    CHECK((sorted<float>({nan, 1, -inf, nan, inf}, true) == Rows{4, 1, 2, 0, 3}));
    CHECK((sorted<float>({nan, 1, -inf, nan, inf}, false) == Rows{2, 1, 4, 0, 3}));
    CHECK((sorted<float>({-0.f, 0.f, -0.f}, true) == Rows{0, 1, 2}));
    CHECK((sorted<std::int32_t>({std::numeric_limits<std::int32_t>::min(), 5, -5}, true) == Rows{1, 2, 0}));
    CHECK((sorted<std::uint32_t>({1, 4'000'000'000u, 2}, true) == Rows{1, 2, 0}));
    CHECK((sorted<std::uint64_t>({1ull << 63, (1ull << 63) + 1}, true) == Rows{1, 0}));
    CHECK((sorted<std::uint8_t>({0, 1, 0, 1}, true) == Rows{1, 3, 0, 2}));
    Rows many;
    std::vector<std::int16_t> keys(5000);
    for (std::size_t i = 0; i < keys.size(); ++i)
      keys[i] = i * 7919 % 100;
    many = sorted(keys, true, 200);
    CHECK(many.size() == 200);
    for (std::size_t i = 1; i < many.size(); ++i)
      CHECK(keys[many[i - 1]] > keys[many[i]] || (keys[many[i - 1]] == keys[many[i]] && many[i - 1] < many[i]));
  }

  template <typename T>
  void testCopy(T value) {
    const T values[] = {T{}, value, T{}};
    std::vector<float> target(4, -7);
    nanoml::copyObjects(Column(values, 3), {1, 0}, target.data() + 1, 2);
    CHECK((target == std::vector<float>{-7, static_cast<float>(value), -7, 0}));
  }

  void testTypes() {
    testCopy<bool>(true);
    testCopy<std::int8_t>(-128);
    testCopy<std::uint8_t>(255);
    testCopy<std::int16_t>(-32768);
    testCopy<std::uint16_t>(65535);
    testCopy<std::int32_t>(-2'147'483'647);
    testCopy<std::uint32_t>(4'294'967'295u);
    testCopy<std::int64_t>(-(std::int64_t{1} << 62));
    testCopy<std::uint64_t>(std::uint64_t{1} << 63);
    testCopy<float>(1.5f);
    testCopy<double>(1e300);
  }

  void testFolds() {  // the numbers are Python's
    CHECK(nanoml::foldOf({0, 0, 0}, 7) == 5);
    CHECK(nanoml::foldOf({1, 1, 1}, 5) == 1);
    CHECK(nanoml::foldOf({362760, 1234, (1ull << 63) + 12345}, 10) == 5);
    CHECK(nanoml::foldOf({0xffffffffu, 0xffffffffu, ~0ull}, 3) == 1);
  }

  const std::string kHash(64, '0');

  std::string text(const std::string& inputs, const std::string& rest = "") {
    return R"({"schema": 2, "name": "m", "level": "event", "collection": null, "inputs": [)" + inputs +
           R"(], "outputs": [{"tensor": "probabilities", "classes": ["s", "b", "c"], "discriminants": [{"name": "d", "signal": "s", "shares": {"s": 1, "c": 0.25}}]}, {"tensor": "fold_probabilities"}], "folds": {"k": 5}, "parameter": null, "onnx_sha256": ")" +
           kHash + "\"" + rest + "}";
  }

  void refused(const std::string& json, const std::string& word) {
    checkThrows([&] { Metadata::parse(json, "m.json"); }, "m.json", word);
  }

  std::string outputs(const std::string& discriminants) {
    return R"(, "outputs": [{"tensor": "probabilities", "classes": ["s", "b", "c"])" + discriminants +
           R"(}, {"tensor": "fold_probabilities"}])";
  }

  void testDiscriminants(const std::string& features) {
    const auto read = [&](const std::string& rest) { return Metadata::parse(text(features, rest), "m.json"); };
    const Metadata one = read("");
    CHECK(one.discriminants.size() == 1 && one.discriminants[0].signal == "s");
    CHECK((one.discriminants[0].shares == std::vector<double>{1, 0, 0.25}));
    CHECK(one.meaning(2) == "probability of class c" && one.meaning(3) == "s against c 0.25");
    const Metadata two =
        read(outputs(R"(, "discriminants": [{"name": "d", "signal": "c", "shares": {"c": 0.5, "b": 1e-7, "s": 3}},
                                                             {"name": "e", "signal": "b", "shares": {"b": 1, "c": 1}}])"));
    CHECK(two.labels.size() == 5 && two.meaning(3) == "c 0.5 against s 3, b 1e-07" &&
          two.meaning(4) == "b against c 1");
    CHECK(read(R"(, "outputs": [{"tensor": "values", "targets": ["x"]}, {"tensor": "fold_values"}])").meaning(0) ==
          "regression of x");
    CHECK(read(outputs(R"(, "discriminants": [])")).labels.size() == 3);
    const std::string heads =
        R"(, "discriminants": [{"name": "d", "signal": "s", "shares": {"s": 1, "c": 0.25}}], "heads": [{"name": "targets", "outputs": ["x"]}, {"name": "spread", "outputs": ["spread_0", "spread_1"]}])";
    const Metadata many = read(outputs(heads) + R"(, "schema": 4)");
    CHECK(many.labels.size() == 7 && many.classes() == 3 && many.meaning(2) == "probability of class c" &&
          many.meaning(3) == "s against c 0.25");
    CHECK(many.meaning(4) == "regression of x" && many.meaning(6) == "output of the head spread");
    refused(text(features, outputs(R"(, "discriminants": [], "heads": [{"name": "targets", "outputs": ["b"]}])")),
            "`outputs` has b");
    refused(text(features, outputs(R"(, "discriminants": [], "heads": [{"name": "targets"}])")), "heads[0]");
    CHECK(read(outputs("") + R"(, "schema": 1)").labels.size() == 3);

    refused(text(features, outputs("")), "`discriminants`");
    refused(text(features, outputs(R"(, "discriminants": [5])")), "discriminants[0]");
    const auto shares = [&](const std::string& signal, const std::string& given) {
      return text(
          features,
          outputs(R"(, "discriminants": [{"name": "d", "signal": ")" + signal + R"(", "shares": )" + given + "}]"));
    };
    refused(shares("s", "[1]"), "`shares` is no object");
    refused(shares("s", R"({"s": 1})"), "nothing beside s");
    refused(shares("s", R"({"b": 1, "c": 1})"), "has no s");
    refused(shares("x", R"({"s": 1, "c": 1})"), "has no x");
    refused(shares("s", R"({"s": 1, "x": 1})"), "x, which is no class");
    for (const char* share : {"0", "-1", "null", "\"1\"", "1e999"})
      refused(shares("s", R"({"s": 1, "b": )" + std::string(share) + "}"),
              std::string(share) == "1e999" ? "JSON" : "share of b");
    for (const char* name : {"s", "d", ""})
      refused(
          text(features,
               outputs(R"(, "discriminants": [{"name": "d", "signal": "s", "shares": {"s": 1, "c": 1}}, {"name": ")" +
                       std::string(name) + R"(", "signal": "s", "shares": {"s": 1, "c": 1}}])")),
          "name");
  }

  void testInside(const std::string& features) {
    const std::string head = R"(, "schema": 3, "outputs": [{"tensor": "p", "targets": ["x"]}], "selection": )";
    const auto selection = [&](const std::string& rest) {
      return text(features,
                  head + R"({"name": "own:Own", "dataset": {"era": "2018", "is_data": true}, "cuts": ["a", "b"],
        "columns": [{"name": "HT", "dtype": "f4", "title": "sum"}], "collections": [{"name": "Good", "size": 3, "fields":
        [{"name": "pt", "dtype": "float32", "title": "pt"}, {"name": "charge", "dtype": "i2", "title": "q"}]}],
        "defaults": {"HLT_Some": 1}, "corrected": ["Jet_pt"])" +
                      rest + "}");
    };
    const nanoml::Inside inside = *Metadata::parse(selection(""), "m.json").inside;
    CHECK(inside.name == "own:Own" && inside.era == "2018" && inside.isData == true && inside.cuts.size() == 2);
    CHECK(inside.columns.size() == 1 && inside.columns[0].kind == nanoml::NumberKind::kFloat);
    CHECK(inside.collections[0].size == 3 && inside.collections[0].fields[1].kind == nanoml::NumberKind::kInt32);
    CHECK(inside.defaults.size() == 1 && inside.defaults[0].second == 1 && inside.corrected.size() == 1);
    CHECK(!Metadata::parse(selection(R"(, "dataset": {})"), "m.json").inside->era);
    refused(selection(R"(, "dataset": {"is_data": "yes"})"), "is_data");
    refused(selection(R"(, "dataset": {"era": 2018})"), "era");
    refused(selection(R"(, "defaults": {"HLT_Some": "x"})"), "HLT_Some");
    refused(selection(R"(, "columns": [{"name": "x", "dtype": "S4", "title": "t"}])"), "S4");
    refused(selection(R"(, "collections": [{"name": "x", "size": 0, "fields": []}])"), "size");
  }

  void testMetadata() {
    const std::string features = R"({"tensor": "features", "columns": ["MET_pt", "mass"]})";
    const std::string jets =
        R"({"tensor": "Jet", "mask": "Jet_mask", "collection": "Jet", "columns": ["Jet_eta"], "max": 6, "order": "-pt"})";
    const Metadata both = Metadata::parse(text(features + "," + jets), "m.json");
    CHECK(both.inputs.size() == 2 && both.inputs[1].order == "Jet_pt" && both.inputs[1].descending);
    CHECK(both.inputs[1].max == 6 && both.labels == (std::vector<std::string>{"s", "b", "c", "d"}) &&
          both.collection.empty() && !both.parameter);
    // of a name that is there twice the last counts
    const Metadata parametrised =
        Metadata::parse(text(features, R"(, "parameter": {"column": "mass", "values": [600, 1000.5]})"), "m.json");
    CHECK(parametrised.parameter->values == (std::vector<float>{600, 1000.5}));

    testDiscriminants(features);
    testInside(features);

    refused("", "JSON");
    refused("[]", "no object");
    refused("{\"schema\": 1", "JSON");
    refused(text(features, R"(, "schema": 5)"), "update NanoML");
    refused(text(features, R"(, "schema": 0)"), "reads 1 to 4");
    refused(text(features, R"(, "schema": "1")"), "schema");
    refused(text(features, R"(, "level": "jet")"), "level");
    refused(text(features, R"(, "level": "object")"), "collection");
    refused(text(features, R"(, "name": "")"), "name");
    refused(text(features, R"(, "outputs": [])"), "outputs");
    refused(text(features, R"(, "outputs": [{"tensor": "values", "targets": ["x"]}])"), "each fold");
    refused(text(features, R"(, "folds": {"k": 0})"), "from 1 to");
    refused(text(features, R"(, "outputs": [{"tensor": "values", "targets": []}])"), "targets");
    refused(text(features, R"(, "parameter": {"column": "MET_pt", "values": [1]})"), "MET_pt");
    refused(text(features, R"(, "parameter": {"column": "mass", "values": [1e300]})"), "values");
    refused(text(features, R"(, "parameter": {"column": "mass", "values": []})"), "values");
    refused(text(features, R"(, "onnx_sha256": 5)"), "onnx_sha256");
    refused(text(""), "inputs");
    refused(text("5"), "inputs[0]");
    refused(text(features + "," + features), "twice");
    refused(text(jets + "," + jets), "twice");
    refused(text(R"({"tensor": "features", "columns": ["a", "a"]})"), "twice");
    refused(text(R"({"tensor": "features", "columns": [5]})"), "columns");
    refused(text(R"({"tensor": "features", "columns": []})"), "columns");
    for (const char* max : {"0", "-1", "2.5", "null", "1e30", "\"6\""})
      refused(text(R"({"tensor": "J", "mask": "M", "collection": "J", "columns": ["J_x"], "max": )" + std::string(max) +
                   "}"),
              "max");
    refused(text(R"({"tensor": "J", "mask": "M", "collection": "J", "columns": ["K_x"], "max": 1})"), "K_x");
    checkThrows([] { Metadata::load("/nowhere/m.json"); }, "/nowhere/m.json", "copy both");
    checkThrows([] { nanoml::Model("/nowhere/m.pt"); }, "/nowhere/m.pt", ".onnx");
    refused(std::string(100'000, '['), "JSON");
  }
}  // namespace

int main() {
  testHash();
  testOrder();
  testTypes();
  testFolds();
  testMetadata();
  return 0;
}
