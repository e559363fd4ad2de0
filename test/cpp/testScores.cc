// Scores events that Python has scored, and compares, with what a selection decides on them: testScores EVENTS [THREADS]

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
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

  void compareDecision(const Expected& expected, const nanoml::Decision& decision, const nanoml::Inside& inside) {
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

  /// Largest difference over all events, relative for numbers above 1.
  double compare(const Events& given, const nanoml::Model& model) {
    nanoml::Scorer scorer(model, given.parameters);
    std::vector<nanoml::Column> columns;
    double largest = 0;
    for (const Event& event : given.events) {
      columnsOf(event, model, columns);
      const bool isMade = !event.decision || (event.decision->passed && !event.decision->failed);
      if (isMade &&
          std::any_of(event.scores.begin(), event.scores.end(), [](float score) { return std::isnan(score); })) {
        checkThrows([&] { scorer.score(columns, event.number); }, "a score is NaN or infinite");
        continue;
      }
      const nanoml::Scores scores = scorer.score(columns, event.number);
      CHECK(scores.parameters() * scores.rows() * scores.labels() == event.scores.size());
      if (event.decision)
        compareDecision(*event.decision, scorer.decision(), *model.metadata().inside);
      if (!isMade)  // then they are any numbers
        continue;
      auto expected = event.scores.begin();
      for (std::size_t parameter = 0; parameter < scores.parameters(); ++parameter) {
        for (std::size_t row = 0; row < scores.rows(); ++row) {
          for (std::size_t label = 0; label < scores.labels(); ++label, ++expected) {
            const double difference = std::abs(scores.at(parameter, row, label) - *expected);
            largest = std::max(largest, difference / std::max(1.f, std::abs(*expected)));
          }
        }
      }
    }
    CHECK(given.outside.empty() || scorer.outside().inputs == given.outside);
    return largest;
  }

  /// Largest difference of the discriminants from what the probabilities of the same row give.
  double checkDiscriminants(const Events& given, const nanoml::Model& model) {
    const nanoml::Metadata& metadata = model.metadata();
    const std::size_t classes = metadata.classes();
    if (metadata.discriminants.empty())
      return 0;
    nanoml::Scorer scorer(model, given.parameters);
    std::vector<nanoml::Column> columns;
    double largest = 0;
    for (const Event& event : given.events) {
      columnsOf(event, model, columns);
      const nanoml::Scores scores = scorer.score(columns);
      for (std::size_t parameter = 0; parameter < scores.parameters(); ++parameter) {
        for (std::size_t row = 0; row < scores.rows(); ++row) {
          for (std::size_t i = 0; i < metadata.discriminants.size(); ++i) {
            const nanoml::Discriminant& discriminant = metadata.discriminants[i];
            double above = 0, below = 0;
            for (std::size_t label = 0; label < classes; ++label) {
              const double part = discriminant.shares[label] * scores.at(parameter, row, label);
              below += part;
              above += metadata.labels[label] == discriminant.signal ? part : 0;
            }
            largest =
                std::max(largest, std::abs(scores.at(parameter, row, classes + i) - above / std::max(below, 1e-30)));
          }
        }
      }
    }
    return largest;
  }

  void testSizes(const Events& given, const nanoml::Model& model) {
    if (model.columns().empty())  // it reads nothing but its parameter
      return;
    nanoml::Scorer scorer(model, given.parameters);
    std::vector<nanoml::Column> columns;
    columnsOf(given.events.front(), model, columns);
    columns.pop_back();
    checkThrows([&] { scorer.score(columns); }, std::to_string(columns.size()), std::to_string(columns.size() + 1));
    const std::vector<float> values(1000);
    std::map<std::string, std::size_t> sizes;  // of the columns of a tensor
    for (const auto& request : model.columns())
      ++sizes[request.collection];
    for (std::size_t i = 0; i < model.columns().size(); ++i) {
      const nanoml::Request& request = model.columns()[i];
      if (!request.collection.empty() && sizes[request.collection] < 2)
        continue;
      columnsOf(given.events.front(), model, columns);
      columns[i] = nanoml::Column(values.data(), values.size());
      // all but the first of the columns of a collection are compared with it
      const std::string other = request.collection.empty() ? request.name : request.collection + "_";
      checkThrows([&] { scorer.score(columns); }, "tensor ", other, "1000", "values");
    }
    columnsOf(given.events.front(), model, columns);
    scorer.score(columns);  // a Scorer can be used after an error
  }

  /// A model with its selection inside refuses integers that would be rounded, and missing columns.
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
  CHECK(argc > 1);
  const Events given = readEvents(argv[1]);
  const nanoml::Model model(given.model);
  std::vector<double> largest(argc > 2 ? std::atoi(argv[2]) : 1);
  std::vector<std::thread> threads;
  for (double& found : largest)
    threads.emplace_back([&] { found = compare(given, model); });
  for (std::thread& thread : threads)
    thread.join();
  testSizes(given, model);
  if (model.metadata().inside)
    testRefusals(given, model);
  CHECK(checkDiscriminants(given, model) < 1e-6);
  std::cout << *std::max_element(largest.begin(), largest.end()) << std::endl;
  return 0;
}
