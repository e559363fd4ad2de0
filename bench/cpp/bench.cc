// Time per event from NanoAOD's columns to scores, and of the session's run() alone: bench EVENTS.json
// Prints both in microseconds. Both go over the same few events in turn, and the fastest of many passes counts.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <vector>

#include "Events.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Scorer.h"
#include "Tensors.h"

namespace {
  template <typename Action>
  double timeOf(Action&& action) {
    const auto start = std::chrono::steady_clock::now();
    action();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  }
}  // namespace

int main(int argc, char** argv) {
  if (argc != 2)
    return 1;
  const Events given = readEvents(argv[1]);
  const nanoml::Model model(given.model);
  nanoml::Scorer scorer(model);
  std::vector<std::vector<nanoml::Column>> columns(given.events.size());
  std::vector<Tensors> tensors;
  for (std::size_t i = 0; i < given.events.size(); ++i) {
    columnsOf(given.events[i], model, columns[i]);
    tensors.push_back(tensorsOf(model, columns[i]));
  }
  constexpr std::size_t kBlock = 20;  // short enough that some pass over it is not disturbed
  double all = 0, alone = 0;
  for (std::size_t first = 0; first + kBlock <= tensors.size(); first += kBlock) {
    double fastest = 1e30, fastestAlone = 1e30;
    for (int pass = 0; pass < 50; ++pass) {
      fastestAlone = std::min(fastestAlone, timeOf([&] {
                                for (std::size_t i = first; i < first + kBlock; ++i)
                                  tensors[i].run(model);
                              }));
      fastest = std::min(fastest, timeOf([&] {
                           for (std::size_t i = first; i < first + kBlock; ++i)
                             scorer.score(columns[i]);
                         }));
    }
    all += fastest;
    alone += fastestAlone;
  }
  std::cout << all / tensors.size() << " " << alone / tensors.size() << std::endl;
  return 0;
}
