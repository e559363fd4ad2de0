// Counts how often memory is allocated per event, beyond what the session does: testAllocations EVENTS.json

#include <iostream>
#include <vector>

#include "Allocations.h"
#include "Check.h"
#include "Events.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Scorer.h"
#include "Tensors.h"

int main(int argc, char** argv) {
  CHECK(argc > 1);
  const Events given = readEvents(argv[1]);
  const nanoml::Model model(given.model);
  nanoml::Scorer scorer(model);
  std::vector<Tensors> tensors;
  std::vector<std::vector<nanoml::Column>> columns(given.events.size());
  for (std::size_t i = 0; i < given.events.size(); ++i) {
    columnsOf(given.events[i], model, columns[i]);
    tensors.push_back(tensorsOf(model, columns[i]));
  }
  long counts[2] = {};
  for (int pass = 0; pass < 2; ++pass) {  // the first one lets all arrays grow
    for (std::size_t i = 0; i < given.events.size(); ++i) {
      const long before = allocations;
      tensors[i].run(model);
      const long between = allocations;
      scorer.score(columns[i]);
      counts[pass] += (allocations - between) - (between - before);
    }
  }
  std::cout << counts[1] << std::endl;
  CHECK(counts[1] == 0);
  return 0;
}
