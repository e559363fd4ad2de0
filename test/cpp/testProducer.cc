// Runs the plugins on tables made of events that Python has decided on: testProducer EVENTS.json
// The model reads the trigger bit HLT_Some and corrected Muon_pt, is for simulation of era 2018, and makes the
// collection Good.

#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "Check.h"
#include "Events.h"
#include "MLTools/NanoML/plugins/NanoMLFilter.cc"
#include "MLTools/NanoML/plugins/NanoMLProducer.cc"

namespace {
  using nanoaod::FlatTable;

  /// Tables as NanoAOD has them: one for each collection, and one for each branch of the event.
  void addTables(const Event& given, const nanoml::Model& model, edm::Event& event) {
    std::map<std::string, FlatTable> tables;
    for (const nanoml::Request& request : model.columns()) {
      const auto found = given.columns.find(request.name);
      if (found == given.columns.end() || nanoml::TriggerBits::isBit(request.name))
        continue;
      const std::string name = request.name.substr(0, request.name.find('_'));
      std::visit(
          [&](const auto& values) {
            using T = typename std::decay_t<decltype(values)>::value_type;
            if constexpr (sizeof(T) < 8 || std::is_floating_point_v<T>) {
              FlatTable& table =
                  tables.try_emplace(name, values.size(), name, request.collection.empty()).first->second;
              table.addColumn<T>(request.name.substr(name.size() + 1), values, "");
            }
          },
          found->second);
    }
    for (const auto& [name, table] : tables)
      event.add(name + "Table", table);
  }

  edm::Event eventOf(const Event& given, const nanoml::Model& model, bool isRealData = false) {
    const nanoml::EventNumber number = given.number.value();
    edm::Event event(edm::EventID(number.run, number.luminosityBlock, number.event), isRealData);
    addTables(given, model, event);
    // paths come and go from menu to menu; some results bring their names along
    event.addMenu("first", {"HLT_SomeOther_v1", "HLT_Some_v3", "Flag_Some_v2"});
    event.addMenu("second", {"HLT_Some_v12", "HLT_vx"});
    const auto& fired = std::get<std::vector<std::uint8_t>>(given.columns.at("HLT_Some"));
    const bool bit = fired.front();
    using Results = edm::TriggerResults;
    using Names = std::vector<std::string>;
    const std::vector<Results> menus{Results("first", {!bit, bit, !bit}), Results("second", {bit, !bit}),
                                     Results({!bit, bit}, Names{"HLT_SomeOther", "HLT_Some"}),
                                     Results({bit, !bit}, Names{"HLT_Some", "HLT_SomeOther"})};
    event.add("Filters", Results({true}, Names{"Flag_Some"}));
    event.add("TriggerResults", menus[number.event % menus.size()]);
    return event;
  }

  edm::ParameterSet configOf(const std::string& model) {
    edm::ConfigurationDescriptions descriptions;
    NanoMLProducer::fillDescriptions(descriptions);
    edm::ParameterSet config = descriptions.defaults;
    config.addParameter("model", edm::FileInPath(model));
    config.addParameter("era", std::string("2018"));
    config.addParameter("tables", std::vector<edm::InputTag>{"MuonTable", "ElectronTable"});
    config.addParameter("triggers", std::vector<edm::InputTag>{"Nothing", "TriggerResults"});
    return config;
  }

  class Job {
  public:
    explicit Job(const edm::ParameterSet& config)
        : shared_(NanoMLProducer::initializeGlobalCache(config)), model(&shared_->model) {
      for (std::unique_ptr<NanoMLProducer>& stream : streams_) {
        stream = std::make_unique<NanoMLProducer>(config, shared_.get());
        stream->shared = shared_.get();
      }
    }
    void run(edm::Event& event) { static_cast<Base&>(*streams_[event.id().event() % 2]).produce(event, {}); }
    void end() {
      for (std::unique_ptr<NanoMLProducer>& stream : streams_)
        static_cast<Base&>(*stream).endStream();
      NanoMLProducer::globalEndJob(shared_.get());
    }

  private:
    using Base = edm::stream::EDProducer<edm::GlobalCache<nanoml::SharedModel>>;
    std::unique_ptr<nanoml::SharedModel> shared_;
    std::unique_ptr<NanoMLProducer> streams_[2];

  public:
    const nanoml::Model* const model;
  };

  void refused(const edm::ParameterSet& config, const std::vector<std::string>& words, const Event* given = nullptr) {
    std::string message;
    try {
      Job job(config);
      edm::Event event = eventOf(*given, *job.model, words.front() == "data");
      job.run(event);
    } catch (const cms::Exception& problem) {
      message = problem.what();
    }
    for (const std::string& word : words) {
      if (message.find(word) == std::string::npos) {
        std::cerr << "\"" << message << "\" does not say \"" << word << "\"" << std::endl;
        std::exit(1);
      }
    }
  }

  void testRefusals(const Events& given) {
    const Event* first = &given.events.front();
    const edm::ParameterSet config = configOf(given.model);
    const auto changed = [&](const char* name, auto value) {
      edm::ParameterSet other = config;
      other.addParameter(name, value);
      return other;
    };
    refused(changed("era", std::string()), {"NanoML: ", "era 2018", "`era` is not set"}, first);
    refused(changed("era", std::string("2022")), {"era 2018", "`era` is 2022"}, first);
    refused(changed("triggers", std::vector<edm::InputTag>()), {"trigger bits", "`triggers`"}, first);
    refused(changed("parameter", std::vector<double>{1}), {"no parameter"}, first);
    refused(changed("tables", std::vector<edm::InputTag>{"MuonTable"}), {"no table has column Electron_pt", "`tables`"},
            first);
    refused(changed("correctedTables", std::vector<edm::InputTag>{"ElectronTable"}), {"no table has column Muon_pt"},
            first);
    refused(config, {"data", "these are data"}, first);
    refused(changed("triggers", std::vector<edm::InputTag>{{"Nothing", "", "HLT"}, "Filters"}),
            {"HLT_Some", "Nothing::HLT (not in the event)", "Filters (1 paths)", "TriggerResults::TEST"}, first);
    edm::ParameterSet precisions;
    precisions.addParameter("HTT", 8);
    refused(changed("precisions", precisions), {"`precisions` has HTT", "HT, WZ"}, first);
  }

  /// Column of a singleton.
  double valueOf(const FlatTable& table, const std::string& column) {
    CHECK(table.columnIndex(column) >= 0 && table.size() == 1);
    return table.getAnyValue(0, table.columnIndex(column));
  }

  void compare(const Event& given, const edm::Event& event, const nanoml::Metadata& metadata, bool corrected) {
    const FlatTable& scores = *event.made<FlatTable>("");
    const Expected& expected = given.decision.value();
    CHECK(scores.name() == metadata.name && scores.singleton() && !scores.extension());
    CHECK(valueOf(scores, "passed") == expected.passed && valueOf(scores, "failed") == expected.failed);
    CHECK(valueOf(scores, "cuts") == expected.cuts && valueOf(scores, "corrected") == corrected);
    for (std::size_t label = 0; label < metadata.labels.size(); ++label) {
      const double score = valueOf(scores, metadata.labels[label]);
      CHECK(expected.passed ? std::abs(score - given.scores[label]) < 1e-6 : std::isnan(score));
    }
    const FlatTable& columns = *event.made<FlatTable>("selection");
    CHECK(columns.name().empty() && columns.nColumns() == expected.columns.size());
    for (std::size_t i = 0; i < expected.columns.size(); ++i)
      CHECK(columns.getAnyValue(0, i) == expected.columns[i] &&
            columns.columnName(i) == metadata.inside->columns[i].name);
    CHECK(columns.columnType(1) == FlatTable::ColumnType::Int32);
    const FlatTable& good = *event.made<FlatTable>("Good");
    CHECK(good.name() == "Good" && !good.singleton() && good.size() == expected.made[0].size());
    for (std::size_t object = 0; object < good.size(); ++object) {
      for (std::size_t field = 0; field < good.nColumns(); ++field)
        CHECK(good.getAnyValue(object, field) == expected.made[0][object][field]);
    }
  }

  std::size_t testEvents(const Events& given, bool corrected) {
    edm::ParameterSet config = configOf(given.model);
    if (corrected)
      config.addParameter("correctedTables", std::vector<edm::InputTag>{"MuonTable"});
    Job job(config);
    edm::ParameterSet filterConfig;
    filterConfig.addParameter("scores", edm::InputTag("made:"));
    filterConfig.addParameter("keepFailed", true);
    const NanoMLFilter filter(filterConfig);
    std::size_t kept = 0;
    for (const Event& one : given.events) {
      edm::Event event = eventOf(one, *job.model);
      job.run(event);
      compare(one, event, job.model->metadata(), corrected);
      const bool passes = static_cast<const edm::global::EDFilter<>&>(filter).filter({}, event, {});
      CHECK(passes == one.decision->passed);
      kept += passes;
    }
    job.end();
    return kept;
  }

  void testOptions(const Events& given) {
    edm::ParameterSet config = configOf(given.model), precisions;
    precisions.addParameter("signal", 8);
    config.addParameter("precision", 12);
    config.addParameter("precisions", precisions);
    config.addParameter("meanOfFolds", true);
    Job job(config);
    edm::Event event = eventOf(given.events.front(), *job.model);
    job.run(event);
    const FlatTable& scores = *event.made<FlatTable>("");
    CHECK(scores.precision(scores.columnIndex("signal")) == 8 && scores.precision(scores.columnIndex("WZ")) == 12);
    CHECK(scores.columnDoc(scores.columnIndex("WZ")).find("mean of all networks") != std::string::npos);
    CHECK(event.made<FlatTable>("selection")->precision(0) == 12 && event.made<FlatTable>("Good")->precision(0) == 12);
  }

  /// An event with more muons than there is room for is kept, and says so.
  void testTooMany(const Events& given) {
    Job job(configOf(given.model));
    Event crowded = given.events.front();
    for (const nanoml::Request& request : job.model->columns()) {
      if (request.collection == "Muon")
        std::visit([](auto& values) { values.assign(100, 1); }, crowded.columns.at(request.name));
    }
    edm::Event event = eventOf(crowded, *job.model);
    job.run(event);
    const FlatTable& scores = *event.made<FlatTable>("");
    CHECK(valueOf(scores, "failed") == 2 && valueOf(scores, "passed") == 0 && std::isnan(valueOf(scores, "signal")));
    CHECK(event.made<FlatTable>("Good")->size() == 0);
    for (const bool keep : {true, false}) {
      edm::ParameterSet config;
      config.addParameter("scores", edm::InputTag("made:"));
      config.addParameter("keepFailed", keep);
      const NanoMLFilter filter(config);
      CHECK((static_cast<const edm::global::EDFilter<>&>(filter).filter({}, event, {})) == keep);
    }
  }
}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  const Events given = readEvents(argv[1]);
  testRefusals(given);
  const std::size_t kept = testEvents(given, false);
  CHECK(testEvents(given, true) == kept);
  testOptions(given);
  testTooMany(given);
  std::cout << kept << std::endl;
  for (const auto* said : {&edm::LogWarning::said(), &edm::LogInfo::said()}) {
    for (const std::string& line : *said)
      std::cout << line << std::endl;
  }
  return 0;
}
