// Columns of a model in NanoAOD's tables, as they are found by the producer.

#include <cstdint>
#include <string>
#include <vector>

#include "Check.h"
#include "MLTools/NanoML/plugins/ScoreTables.h"
#include "MLTools/NanoML/plugins/TableColumns.h"
#include "MLTools/NanoML/plugins/TriggerBits.h"

using nanoaod::FlatTable;
using nanoml::Column;
using nanoml::Request;
using nanoml::TableColumns;

namespace {
  const std::vector<Request> kRequests{
      {"MET_pt", ""}, {"nJet", ""}, {"rho", ""}, {"Jet_pt", "Jet"}, {"Jet_btag_b", "Jet"}};

  std::vector<double> valuesOf(const Column& column) {
    std::vector<double> values;
    column.visit([&](const auto* first) { values.assign(first, first + column.size()); });
    return values;
  }

  struct Tables {
    explicit Tables(unsigned int jets, bool swapped = false)
        : met(1, "MET", true), jet(jets, "Jet", false), more(jets, "Jet", false, true), plain(1, "", true) {
      met.addColumn<float>("phi", std::vector<float>{1}, "");
      met.addColumn<float>("pt", std::vector<float>{50}, "");
      std::vector<float> pts(jets), tags(jets);
      for (unsigned int i = 0; i < jets; ++i)
        pts[i] = 100 - i, tags[i] = i;
      if (swapped)
        jet.addColumn<float>("eta", tags, "");
      jet.addColumn<float>("pt", pts, "");
      if (!swapped)
        jet.addColumn<float>("eta", tags, "");
      more.addColumn<double>("btag_b", tags, "");
      plain.addColumn<std::int16_t>("rho", std::vector<int>{-3}, "");
    }

    TableColumns::Tables all() const { return {&met, &jet, &more, &plain}; }

    FlatTable met, jet, more, plain;
  };

  void testColumns() {
    TableColumns columns(kRequests);
    for (const auto& tables : {Tables(3), Tables(0), Tables(2, true), Tables(5)}) {
      const std::vector<Column>& found = columns.read(tables.all());
      const unsigned int jets = tables.jet.size();
      CHECK(valuesOf(found[0]) == std::vector<double>{50});
      CHECK(valuesOf(found[1]) == std::vector<double>{double(jets)});
      CHECK(valuesOf(found[2]) == std::vector<double>{-3});
      CHECK(found[3].size() == jets && found[4].size() == jets);
      for (unsigned int i = 0; i < jets; ++i)
        CHECK(valuesOf(found[3])[i] == 100 - i && valuesOf(found[4])[i] == i);
    }
  }

  template <typename T>
  void testType(T value) {
    FlatTable table(2, "Jet", false);
    table.addColumn<T>("x", std::vector<T>{T{}, value}, "");
    const std::vector<Request> requests{{"Jet_x", "Jet"}};
    TableColumns columns(requests);
    CHECK((valuesOf(columns.read({&table}).front()) == std::vector<double>{0, double(value)}));
  }

  void testMissing() {
    const Tables tables(2);
    const std::vector<Request> requests{{"PV_npvs", "", 5.f}, {"HLT_IsoMu24", ""}, {"rho", "", 1.f}};
    TableColumns columns(requests);
    for (int event = 0; event < 2; ++event) {
      const std::vector<Column>& found = columns.read(tables.all());
      CHECK(found[0].missing() && found[1].missing() && !found[2].missing());
    }
  }

  void testCorrected() {
    const Tables tables(2);
    FlatTable corrected(2, "Jet", false, true);
    corrected.addColumn<float>("pt", std::vector<float>{7, 8}, "");
    TableColumns columns(kRequests, {"Jet_pt"});
    const std::vector<Column>& found = columns.read(tables.all(), {&corrected});
    CHECK((valuesOf(found[3]) == std::vector<double>{7, 8}) && valuesOf(found[0]) == std::vector<double>{50});
  }

  void testBits() {
    const std::vector<Request> requests{{"HLT_Mu50", ""}, {"MET_pt", ""}, {"Flag_METFilters", ""}, {"L1_Mu", "", 0.f}};
    nanoml::TriggerBits bits(requests);
    std::vector<Column> columns(requests.size());
    CHECK(bits.any() && !nanoml::TriggerBits(kRequests).any());
    CHECK(bits.unknown() == "HLT_Mu50, Flag_METFilters, L1_Mu");
    bits.add(edm::TriggerResults("a", {true, false}), {"HLT_Mu50_v11", "HLT_Mu5"});
    bits.add(edm::TriggerResults("b", {false, true}), {"HLT_Mu50_v1", "Flag_METFilters"});
    CHECK(bits.unknown() == "L1_Mu");  // nothing says that it has not fired
    bits.fill(columns);
    CHECK(valuesOf(columns[0])[0] == 1 && valuesOf(columns[2])[0] == 1);
    CHECK(columns[1].missing() && columns[3].missing());
    bits.clear();
    bits.add(edm::TriggerResults("c", {false, true, true}), {"Flag_METFilters", "HLT_Mu50_v2", "L1_Other"});
    CHECK(bits.unknown().empty());
    bits.fill(columns);
    CHECK(valuesOf(columns[0])[0] == 1 && valuesOf(columns[2])[0] == 0);
    bits.clear();  // menus that were there are known by their IDs
    CHECK(!bits.add(edm::TriggerResults("d", {true})) && bits.add(edm::TriggerResults("b", {true, false})));
    bits.fill(columns);
    CHECK(valuesOf(columns[0])[0] == 1 && valuesOf(columns[2])[0] == 0);
    CHECK(bits.add(edm::TriggerResults("a", {false, true})) && bits.unknown() == "L1_Mu");
    const std::vector<Request> versioned{{"HLT_Mu50_v2", ""}};
    nanoml::TriggerBits exact(versioned);
    exact.add(edm::TriggerResults("c", {true}), {"HLT_Mu50_v2"});
    CHECK(exact.unknown() == "HLT_Mu50_v2");
    const std::vector<Request> odd{{"HLT_vx", ""}, {"HLT_v", ""}, {"Flag_v2", ""}, {"L1_Mu", ""}};
    nanoml::TriggerBits kept(odd);
    kept.add(edm::TriggerResults("d", {true, true, true, true}), {"HLT_vx", "HLT_v", "Flag_v2", "L1_Mu_v3"});
    kept.fill(columns);
    CHECK(valuesOf(columns[0])[0] + valuesOf(columns[1])[0] + valuesOf(columns[2])[0] + valuesOf(columns[3])[0] == 4);
  }

  /// As in test_fit.py.
  void testSuffixes() {
    CHECK(nanoml::suffixOf("mass", 600) == "mass600" && nanoml::suffixOf("mass", 0.5f) == "mass0p5");
    CHECK(nanoml::suffixOf("mass", -1e-12f) == "massm1em12" && nanoml::suffixOf("mass", 1234567) == "mass1234567");
    CHECK(nanoml::suffixOf("mass", 0.1f) == "mass0p1" && nanoml::suffixOf("mass", 1e20f) == "mass1e20");
    CHECK(nanoml::suffixOf("mass", 16777215) == "mass16777215");
  }

  void testRefusals() {
    const Tables tables(2);
    const std::vector<Request> unknown{{"PV_npvs", ""}}, perEvent{{"Jet_pt", ""}}, perObject{{"MET_pt", "MET"}};
    checkThrows([&] { TableColumns(unknown).read(tables.all()); }, "PV_npvs", "MET, Jet, Jet", "`tables`");
    checkThrows([&] { TableColumns(unknown).read({}); }, "none");
    checkThrows([&] { TableColumns(perEvent).read(tables.all()); }, "Jet_pt", "per object of Jet");
    checkThrows([&] { TableColumns(perObject).read(tables.all()); }, "MET_pt", "per event");
    checkThrows([&] { TableColumns(kRequests).read({&tables.met, &tables.met, &tables.jet}); }, "MET_pt", "several");
    TableColumns columns(kRequests);
    columns.read(tables.all());
    FlatTable without(2, "Jet", false);
    checkThrows([&] { columns.read({&tables.met, &without, &tables.more, &tables.plain}); }, "Jet_pt");
  }
}  // namespace

int main() {
  testColumns();
  testMissing();
  testCorrected();
  testBits();
  testSuffixes();
  testType<std::int8_t>(-5);
  testType<std::uint8_t>(200);
  testType<std::int16_t>(-300);
  testType<std::uint16_t>(60000);
  testType<std::int32_t>(-70000);
  testType<std::uint32_t>(4'000'000'000u);
  testType<float>(0.5f);
  testType<double>(0.25);
  testRefusals();
  return 0;
}
