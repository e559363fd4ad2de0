// Modules that test the plugins in the framework: events from a file, and a comparison of what the plugins make of them
// with what Python has made of them. make.py writes the file.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "DataFormats/Common/interface/HLTGlobalStatus.h"
#include "DataFormats/Common/interface/Handle.h"
#include "DataFormats/Common/interface/TriggerResults.h"
#include "DataFormats/NanoAOD/interface/FlatTable.h"
#include "FWCore/Framework/interface/Event.h"
#include "FWCore/Framework/interface/EventForOutput.h"
#include "FWCore/Framework/interface/LuminosityBlockForOutput.h"
#include "FWCore/Framework/interface/MakerMacros.h"
#include "FWCore/Framework/interface/RunForOutput.h"
#include "FWCore/Framework/interface/global/EDProducer.h"
#include "FWCore/Framework/interface/one/OutputModule.h"
#include "FWCore/MessageLogger/interface/MessageLogger.h"
#include "FWCore/ParameterSet/interface/ConfigurationDescriptions.h"
#include "FWCore/ParameterSet/interface/FileInPath.h"
#include "FWCore/ParameterSet/interface/ParameterSet.h"
#include "FWCore/ParameterSet/interface/ParameterSetDescription.h"
#include "FWCore/Utilities/interface/EDPutToken.h"
#include "FWCore/Utilities/interface/Exception.h"

using nanoaod::FlatTable;
using nlohmann::json;
using Names = std::vector<std::string>;

/// The file, one in a job, which is read once.
class NanoMLTestEvents {
public:
  explicit NanoMLTestEvents(const edm::ParameterSet& config) : content_(read(config)) {}

  const json& of(const std::string& part) const { return content_.at(part); }
  std::size_t row(const edm::EventID& id) const { return id.event() - content_.at("first").get<std::uint64_t>(); }

private:
  static const json& read(const edm::ParameterSet& config) {
    static const json content =
        json::parse(std::ifstream(config.getUntrackedParameter<edm::FileInPath>("events").fullPath()));
    return content;
  }

  const json& content_;
};

/// A table of NanoAOD, with the columns that the file has.
class NanoMLTestTableProducer : public edm::global::EDProducer<> {
public:
  explicit NanoMLTestTableProducer(const edm::ParameterSet& config)
      : stored_(config),
        name_(config.getParameter<std::string>("name")),
        columns_(config.getParameter<std::string>("columns")),
        singleton_(config.getParameter<bool>("singleton")),
        put_(produces<FlatTable>()) {}

  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
    edm::ParameterSetDescription description;
    description.addUntracked<edm::FileInPath>("events");
    description.add<std::string>("name");
    description.add<std::string>("columns", "columns");
    description.add<bool>("singleton", false);
    descriptions.addWithDefaultLabel(description);
  }

private:
  void produce(edm::StreamID, edm::Event& event, const edm::EventSetup&) const override {
    std::optional<FlatTable> table;
    for (const auto& [branch, column] : stored_.of(columns_).items()) {
      if (branch.rfind(name_ + "_", 0) != 0)
        continue;
      const json& values = column.at("values").at(stored_.row(event.id()));
      if (!table)
        table.emplace(values.size(), name_, singleton_);
      const std::string name = branch.substr(name_.size() + 1);
      if (column.at("type") == "float32")
        table->addColumn<float>(name, values.get<std::vector<float>>(), "");
      else if (column.at("type") == "int32")
        table->addColumn<std::int32_t>(name, values.get<std::vector<std::int32_t>>(), "");
      else
        throw cms::Exception("NanoMLTest", branch + " has a type that no table of this test has.");
    }
    event.emplace(put_, std::move(*table));
  }

  const NanoMLTestEvents stored_;
  const std::string name_, columns_;
  const bool singleton_;
  const edm::EDPutTokenT<FlatTable> put_;
};
DEFINE_FWK_MODULE(NanoMLTestTableProducer);

/// Trigger results. Paths have another version and another order from event to event; those that the file does not have
/// never fire.
class NanoMLTestTriggerProducer : public edm::global::EDProducer<> {
public:
  explicit NanoMLTestTriggerProducer(const edm::ParameterSet& config)
      : stored_(config), named_(config.getParameter<bool>("named")), put_(produces<edm::TriggerResults>()) {
    auto names = config.getParameter<Names>("paths");
    for (std::size_t version = 1; version <= names.size(); ++version) {
      std::rotate(names.begin(), names.begin() + 1, names.end());
      Names paths;
      for (const std::string& name : names)
        paths.push_back(name.rfind("HLT_", 0) == 0 ? name + "_v" + std::to_string(version) : name);
      edm::ParameterSet menu;
      menu.addParameter<Names>("@trigger_paths", paths);
      menu.registerIt();
      menus_.push_back({names, paths, menu.id()});
    }
  }

  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
    edm::ParameterSetDescription description;
    description.addUntracked<edm::FileInPath>("events");
    description.add<Names>("paths");
    description.add<bool>("named", false);
    descriptions.addWithDefaultLabel(description);
  }

private:
  void produce(edm::StreamID, edm::Event& event, const edm::EventSetup&) const override {
    const std::size_t row = stored_.row(event.id());
    const Menu& menu = menus_[row % menus_.size()];
    edm::HLTGlobalStatus status(menu.names.size());
    for (std::size_t path = 0; path < menu.names.size(); ++path) {
      const auto bits = stored_.of("columns").find(menu.names[path]);
      const bool fired = bits != stored_.of("columns").end() && bits->at("values").at(row).at(0) != 0;
      status.at(path) = edm::HLTPathStatus(fired ? edm::hlt::Pass : edm::hlt::Fail);
    }
    if (named_)
      event.emplace(put_, status, menu.paths);
    else
      event.emplace(put_, status, menu.id);
  }

  struct Menu {
    Names names, paths;
    edm::ParameterSetID id;
  };

  const NanoMLTestEvents stored_;
  const bool named_;
  const edm::EDPutTokenT<edm::TriggerResults> put_;
  std::vector<Menu> menus_;
};
DEFINE_FWK_MODULE(NanoMLTestTriggerProducer);

/// Compares all branches of the tables that an output module would write, and ends the job where they differ.
class NanoMLTestOutputModule : public edm::one::OutputModule<> {
public:
  explicit NanoMLTestOutputModule(const edm::ParameterSet& config)
      : edm::one::OutputModuleBase(config),
        edm::one::OutputModule<>(config),
        stored_(config),
        expected_(stored_.of("expected").at(config.getUntrackedParameter<std::string>("expected"))),
        onlyPassed_(config.getUntrackedParameter<bool>("onlyPassed")) {}

  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
    edm::ParameterSetDescription description;
    description.addUntracked<edm::FileInPath>("events");
    description.addUntracked<std::string>("expected");
    description.addUntracked<bool>("onlyPassed", false);
    edm::one::OutputModule<>::fillDescription(description, {"drop *", "keep nanoaodFlatTable_*ScoreTable_*_*"});
    descriptions.addDefault(description);
  }

private:
  using Branches = std::map<std::string, std::vector<double>>;

  void write(const edm::EventForOutput& event) override {
    const Branches branches = branchesOf(event);
    const std::size_t row = stored_.row(event.id());
    for (const auto& [branch, events] : expected_.items()) {
      const auto found = branches.find(branch);
      if (found == branches.end() || !areSame(events.at(row), found->second))
        throw cms::Exception("NanoMLTest",
                             branch + " of event " + std::to_string(event.id().event()) + " is " +
                                 (found == branches.end() ? "missing" : json(found->second).dump()) + ", in Python " +
                                 events.at(row).dump() + ".");
    }
    if (branches.size() != expected_.size())
      throw cms::Exception("NanoMLTest", countOf(branches.size(), "branches") + ", in Python " +
                                             std::to_string(expected_.size()) + ".");
    ++compared_;
  }
  void writeLuminosityBlock(const edm::LuminosityBlockForOutput&) override {}
  void writeRun(const edm::RunForOutput&) override {}

  Branches branchesOf(const edm::EventForOutput& event) const {
    Branches branches;
    for (const auto& kept : keptProducts()[edm::InEvent]) {
      edm::Handle<FlatTable> table;
      event.getByToken(kept.second, table);
      const std::string& name = table->name();
      if (!table->singleton())
        branches["n" + name].assign(1, table->size());
      for (unsigned int column = 0; column < table->nColumns(); ++column) {
        auto& values = branches[name + (name.empty() ? "" : "_") + table->columnName(column)];
        for (unsigned int object = 0; object < table->size(); ++object)
          values.push_back(table->getAnyValue(object, column));
      }
    }
    return branches;
  }

  static bool areSame(const json& expected, const std::vector<double>& found) {
    const auto same = [](double one, const json& other) {
      return other.is_null() ? std::isnan(one)
                             : std::abs(one - other.get<double>()) <= 1e-6 * std::max(1., std::abs(one));
    };
    return std::equal(found.begin(), found.end(), expected.begin(), expected.end(), same);
  }

  void endJob() override {
    std::size_t wanted = expected_.begin()->size();
    if (onlyPassed_)
      wanted = std::count(expected_.at("score_passed").begin(), expected_.at("score_passed").end(), json{1});
    const std::string events = countOf(compared_, "events");
    if (compared_ != wanted || compared_ == 0)
      throw cms::Exception("NanoMLTest", events + " were compared, not " + std::to_string(wanted) + ".");
    edm::LogAbsolute("NanoMLTest") << events + " with " + countOf(expected_.size(), "branches are as in Python.");
  }

  static std::string countOf(std::size_t number, const char* what) { return std::to_string(number) + " " + what; }

  const NanoMLTestEvents stored_;
  const json& expected_;
  const bool onlyPassed_;
  std::size_t compared_ = 0;
};
DEFINE_FWK_MODULE(NanoMLTestOutputModule);
