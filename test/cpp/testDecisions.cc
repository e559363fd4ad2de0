// Runs a model with its selection inside on events that Python has decided on, and compares: testDecisions EVENTS.json

#include <cmath>
#include <iostream>
#include <vector>

#include "Check.h"
#include "Events.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Scorer.h"

namespace {
  void compareObjects(const Expected& expected, const nanoml::Decision& decision, const nanoml::Inside& inside) {
    CHECK(expected.made.size() == inside.collections.size());
    for (std::size_t collection = 0; collection < expected.made.size(); ++collection) {
      const auto& objects = expected.made[collection];
      CHECK(decision.objects(collection) == objects.size());
      for (std::size_t object = 0; object < objects.size(); ++object) {
        CHECK(objects[object].size() == inside.collections[collection].fields.size());
        for (std::size_t field = 0; field < objects[object].size(); ++field)
          CHECK(decision.object(collection, object, field) == objects[object][field]);
      }
    }
  }

  void compare(const Expected& expected, const nanoml::Decision& decision, const nanoml::Inside& inside) {
    CHECK(decision.failed() == expected.failed);
    if (expected.failed)
      return;
    CHECK(decision.passed() == expected.passed);
    CHECK(decision.cuts() == expected.cuts);
    CHECK(expected.columns.size() == inside.columns.size());
    for (std::size_t column = 0; column < expected.columns.size(); ++column)
      CHECK(decision.column(column) == expected.columns[column]);
    compareObjects(expected, decision, inside);
  }

  void testRefusals(const Events& given, const nanoml::Model& model) {
    nanoml::Scorer scorer(model);
    std::vector<nanoml::Column> columns;
    for (std::size_t i = 0; i < model.columns().size(); ++i) {
      const nanoml::Request& request = model.columns()[i];
      columnsOf(given.events.front(), model, columns);
      if (columns[i].missing())
        continue;
      const std::vector<std::int64_t> large(columns[i].size(), -(1 << 24) - 1), exact(columns[i].size(), 1 << 24);
      columns[i] = {large.data(), large.size()};
      if (!large.empty())
        checkThrows([&] { scorer.score(columns); }, request.name, "-16777217", "exact");
      columns[i] = {exact.data(), exact.size()};
      scorer.score(columns);
      columns[i] = {};
      if (request.fallback && request.collection.empty())
        scorer.score(columns);
      else
        checkThrows([&] { scorer.score(columns); }, request.name, "missing");
    }
  }
}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  const Events given = readEvents(argv[1]);
  const nanoml::Model model(given.model);
  CHECK(model.metadata().inside);
  nanoml::Scorer scorer(model, given.parameters);
  std::vector<nanoml::Column> columns;
  std::size_t passed = 0;
  for (const Event& event : given.events) {
    columnsOf(event, model, columns);
    scorer.score(columns, event.number);
    compare(event.decision.value(), scorer.decision(), *model.metadata().inside);
    passed += event.decision->passed;
  }
  if (!given.events.empty())
    testRefusals(given, model);
  std::cout << passed << std::endl;
  return 0;
}
