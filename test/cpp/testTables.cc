// Columns of a model in NanoAOD's tables, as they are found by the producer.

#include <cstdint>
#include <string>
#include <vector>

#include "Check.h"
#include "MLTools/NanoML/plugins/TableColumns.h"

using nanoaod::FlatTable;
using nanoml::Column;
using nanoml::Request;
using nanoml::TableColumns;

namespace {
  const std::vector<Request> kRequests{{"MET_pt", ""}, {"nJet", ""}, {"rho", ""}, {"Jet_pt", "Jet"}, {"Jet_btag_b", "Jet"}};

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

  void testRefusals() {
    const Tables tables(2);
    const std::vector<Request> trigger{{"HLT_IsoMu24", ""}}, perEvent{{"Jet_pt", ""}}, perObject{{"MET_pt", "MET"}};
    checkThrows([&] { TableColumns(trigger).read(tables.all()); }, "HLT_IsoMu24", "MET, Jet, Jet", "nano_postproc");
    checkThrows([&] { TableColumns(trigger).read({}); }, "none");
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
