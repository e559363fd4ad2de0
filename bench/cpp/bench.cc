// Time per event from NanoAOD's columns to scores, and of the session's run() alone: bench EVENTS [BATCH]
// Prints both in microseconds. Both go over the same few events in turn, and the fastest of many passes counts. With
// BATCH a model with its selection inside also runs over that many events at once, for it has tensors of fixed shapes:
// the time per event. Its events are all of one fold then.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <string>
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
  /// The tensors of many events as one.
  Tensors joined(const std::vector<Tensors>& tensors, std::size_t batch) {
    Tensors all = tensors.front();
    for (auto& values : all.values)
      values.clear();
    for (std::size_t event = 0; event < batch; ++event) {
      const Tensors& one = tensors[event % tensors.size()];
      for (std::size_t i = 0; i < all.values.size(); ++i)
        all.values[i].insert(all.values[i].end(), one.values[i].begin(), one.values[i].end());
    }
    for (auto& shape : all.shapes)
      shape.front() = batch;
    return all;
  }
}  // namespace

int main(int argc, char** argv) {
  if (argc < 2)
    return 1;
  const Events given = readEvents(argv[1]);
  const nanoml::Model model(given.model);
  nanoml::Scorer scorer(model);
  std::vector<std::vector<nanoml::Column>> columns(given.events.size());
  std::vector<Tensors> tensors;
  for (std::size_t i = 0; i < given.events.size(); ++i) {
    columnsOf(given.events[i], model, columns[i]);
    tensors.push_back(tensorsOf(model, columns[i], given.events[i].number));
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
                             scorer.score(columns[i], given.events[i].number);
                         }));
    }
    all += fastest;
    alone += fastestAlone;
  }
  const std::size_t measured = tensors.size() / kBlock * kBlock;
  std::cout << all / measured << " " << alone / measured;
  if (argc > 2 && model.metadata().inside) {
    const std::size_t batch = std::stoul(argv[2]);
    Tensors together = joined(tensors, batch);
    double fastest = 1e30;
    for (int pass = 0; pass < 20; ++pass)
      fastest = std::min(fastest, timeOf([&] { together.run(model); }));
    std::cout << " " << fastest / batch;
  }
  std::cout << std::endl;
  return 0;
}
