// Counts how often memory is allocated from the second event on, from NanoAOD's tables to those with scores:
// testAllocations EVENTS. What does not count: ONNX Runtime and its wrapper, and what a FlatTable holds, since
// that is the event's.

#include <iostream>
#include <map>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "Allocations.h"
#include "Check.h"
#include "Events.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Scorer.h"
#include "MLTools/NanoML/plugins/ScoreTables.h"
#include "MLTools/NanoML/plugins/TableColumns.h"
#include "MLTools/NanoML/plugins/TriggerBits.h"

namespace {
  using nanoaod::FlatTable;

  /// A table for each collection, and one of all else.
  std::map<std::string, FlatTable> tablesOf(const Event& event, const nanoml::Model& model) {
    std::map<std::string, FlatTable> tables;
    for (const nanoml::Request& request : model.columns()) {
      const auto found = event.columns.find(request.name);
      if (found == event.columns.end() || nanoml::TriggerBits::isBit(request.name))
        continue;
      const std::string& name = request.collection;
      const auto add = [&](const auto& values) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        if constexpr (sizeof(T) < 8 || std::is_floating_point_v<T>) {
          FlatTable& table = tables.try_emplace(name, values.size(), name, name.empty()).first->second;
          table.addColumn<T>(name.empty() ? request.name : request.name.substr(name.size() + 1), values, "");
        }
      };
      std::visit(add, found->second);
    }
    return tables;
  }
}  // namespace

int main(int argc, char** argv) {
  CHECK(argc > 1);
  const Events given = readEvents(argv[1]);
  const nanoml::Model model(given.model);
  nanoml::TableColumns reader(model.columns());
  nanoml::TriggerBits bits(model.columns());
  nanoml::Scorer scorer(model);
  nanoml::ScoreTables output(model.metadata(), scorer.parameters(), {});
  long first = 0, later = 0;
  for (const Event& event : given.events) {
    const std::map<std::string, FlatTable> tables = tablesOf(event, model);
    nanoml::TableColumns::Tables pointers;
    for (const auto& named : tables)
      pointers.push_back(&named.second);
    const edm::TriggerResults results("menu", std::vector<bool>{true});
    const std::vector<std::string> paths{"HLT_Some_v1"};
    const long before = allocations;
    std::vector<nanoml::Column>& columns = reader.read(pointers);
    bits.clear();
    if (!bits.add(results))
      bits.add(results, paths);
    bits.fill(columns);
    const nanoml::Scores scores = scorer.score(columns, event.number);
    for (std::size_t i = 0; i < output.instances().size(); ++i)
      output.table(i, scores, scorer.decision());
    (&event == &given.events.front() ? first : later) += allocations - before;
  }
  std::cout << later << std::endl;
  CHECK(first > 0 && later == 0);
  return 0;
}
