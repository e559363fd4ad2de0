// Adds the scores of a trained model to NanoAOD: as a table of their own if it scores events, as an extension of its
// collection's table if it scores objects. A model with its selection inside also decides on the event, and gives the
// selection's columns. Everything but the model file and where its columns are stands in the model.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "DataFormats/Common/interface/TriggerResults.h"
#include "DataFormats/NanoAOD/interface/FlatTable.h"
#include "DataFormats/Provenance/interface/StableProvenance.h"
#include "FWCore/Common/interface/TriggerNames.h"
#include "FWCore/Framework/interface/Event.h"
#include "FWCore/Framework/interface/MakerMacros.h"
#include "FWCore/Framework/interface/stream/EDProducer.h"
#include "FWCore/MessageLogger/interface/MessageLogger.h"
#include "FWCore/ParameterSet/interface/ConfigurationDescriptions.h"
#include "FWCore/ParameterSet/interface/FileInPath.h"
#include "FWCore/ParameterSet/interface/ParameterSet.h"
#include "FWCore/ParameterSet/interface/ParameterSetDescription.h"
#include "FWCore/Utilities/interface/EDGetToken.h"
#include "FWCore/Utilities/interface/EDPutToken.h"
#include "FWCore/Utilities/interface/Exception.h"
#include "FWCore/Utilities/interface/InputTag.h"
#include "MLTools/NanoML/interface/Domain.h"
#include "MLTools/NanoML/interface/Error.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Scorer.h"
#include "ScoreTables.h"
#include "TableColumns.h"
#include "TriggerBits.h"

#if __has_include("PhysicsTools/ONNXRuntime/interface/ONNXInterface.h")
#define NANOML_ONNX_SERVICE
#include "FWCore/ServiceRegistry/interface/Service.h"
#include "PhysicsTools/ONNXRuntime/interface/ONNXInterface.h"
#endif

namespace nanoml {
  /// What all streams share.
  struct SharedModel {
    SharedModel(const std::string& path, const ::Ort::SessionOptions* options)
        : model(path, options),
          outside(model.metadata().name, model.metadata().collection.empty() ? "events" : "objects",
                  model.metadata().domain) {}
    const Model model;
    const Outside outside;
  };
}  // namespace nanoml

class NanoMLProducer : public edm::stream::EDProducer<edm::GlobalCache<nanoml::SharedModel>> {
public:
  NanoMLProducer(const edm::ParameterSet& config, const nanoml::SharedModel* shared);

  static std::unique_ptr<nanoml::SharedModel> initializeGlobalCache(const edm::ParameterSet& config);
  static void globalEndJob(const nanoml::SharedModel* shared);
  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions);

private:
  using TableToken = edm::EDGetTokenT<nanoaod::FlatTable>;

  void produce(edm::Event& event, const edm::EventSetup&) override;
  void endStream() override { globalCache()->outside.add(scorer_.outside()); }
  template <typename T>
  std::vector<edm::EDGetTokenT<T>> tokensOf(const std::vector<edm::InputTag>& tags);
  std::vector<edm::EDPutTokenT<nanoaod::FlatTable>> putsOf(const std::vector<std::string>& instances);
  std::vector<nanoml::Column>& columnsOf(const edm::Event& event);
  void checkEvent(const edm::Event& event) const;
  void readBits(const edm::Event& event);
  [[noreturn]] void refuseBits(const edm::Event& event, const std::string& bits) const;

  const nanoml::Metadata& metadata_;
  const std::vector<TableToken> tables_, correctedTables_;
  const bool mean_;
  nanoml::TableColumns columns_;
  nanoml::TableColumns::Tables given_, corrected_;
  nanoml::TriggerBits bits_;
  const std::vector<edm::InputTag> triggerTags_;
  const std::vector<edm::EDGetTokenT<edm::TriggerResults>> triggers_;
  nanoml::Scorer scorer_;
  nanoml::ScoreTables output_;
  const std::vector<edm::EDPutTokenT<nanoaod::FlatTable>> puts_;
};

namespace {
  using Tags = std::vector<edm::InputTag>;

  /// Does something of the library, whose exception becomes one of the framework.
  template <typename Action>
  auto translated(Action&& action) -> decltype(action()) {
    try {
      return action();
    } catch (const nanoml::Error& problem) {
      throw cms::Exception("NanoML", problem.what());
    }
  }

  void refuseSelection(const nanoml::Metadata& metadata) {
    for (const nanoml::InputTensor& input : metadata.inputs) {
      if (!input.selectionColumns.empty())
        throw nanoml::Error("model " + metadata.name + " reads " + input.selectionColumns.front() +
                            ", a column that the selection " + input.selection +
                            " makes, so no table has it. Take the model that has its selection inside: `export: "
                            "{selection: true}` writes model_with_selection.onnx.");
    }
  }

  void checkEra(const nanoml::Metadata& metadata, const std::string& era) {
    if (!metadata.inside || !metadata.inside->era || *metadata.inside->era == era)
      return;
    throw nanoml::Error("model " + metadata.name + " has the selection of era " + *metadata.inside->era +
                        " inside, but " +
                        (era.empty() ? "`era` is not set. Set it to that of the events."
                                     : "`era` is " + era + ". Take the model of that era."));
  }

  std::unique_ptr<nanoml::SharedModel> load(const std::string& path) {
#ifdef NANOML_ONNX_SERVICE
    // one event is too little for a GPU; on the CPU all streams share a session
    const ::Ort::SessionOptions options =
        edm::Service<cms::Ort::ONNXInterface>()->sessionOptions(cms::Ort::Backend::cpu);
    return std::make_unique<nanoml::SharedModel>(path, &options);
#else
    return std::make_unique<nanoml::SharedModel>(path, nullptr);
#endif
  }

  nanoml::Scorer scorerOf(const nanoml::Model& model, const edm::ParameterSet& config) {
    const auto values = config.getParameter<std::vector<double>>("parameter");
    return translated([&] { return nanoml::Scorer(model, std::vector<float>(values.begin(), values.end())); });
  }

  std::vector<std::string> correctedOf(const nanoml::Metadata& metadata, const edm::ParameterSet& config) {
    const bool given = !config.getParameter<Tags>("correctedTables").empty();
    return metadata.inside && given ? metadata.inside->corrected : std::vector<std::string>();
  }

  nanoml::ScoreTables::Options optionsOf(const edm::ParameterSet& config) {
    nanoml::ScoreTables::Options options;
    options.mean = config.getParameter<bool>("meanOfFolds");
    options.corrected = !config.getParameter<Tags>("correctedTables").empty();
    options.precision = config.getParameter<int>("precision");
    const auto& precisions = config.getParameter<edm::ParameterSet>("precisions");
    for (const std::string& column : precisions.getParameterNamesForType<int>())
      options.precisions[column] = precisions.getParameter<int>(column);
    return options;
  }
}  // namespace

NanoMLProducer::NanoMLProducer(const edm::ParameterSet& config, const nanoml::SharedModel* shared)
    : metadata_(shared->model.metadata()),
      tables_(tokensOf<nanoaod::FlatTable>(config.getParameter<Tags>("tables"))),
      correctedTables_(tokensOf<nanoaod::FlatTable>(config.getParameter<Tags>("correctedTables"))),
      mean_(config.getParameter<bool>("meanOfFolds")),
      columns_(shared->model.columns(), correctedOf(metadata_, config)),
      bits_(shared->model.columns()),
      triggerTags_(bits_.any() ? config.getParameter<Tags>("triggers") : Tags()),
      triggers_(tokensOf<edm::TriggerResults>(triggerTags_)),
      scorer_(scorerOf(shared->model, config)),
      output_(translated([&] { return nanoml::ScoreTables(metadata_, scorer_.parameters(), optionsOf(config)); })),
      puts_(putsOf(output_.instances())) {
  if (bits_.any() && triggers_.empty())
    throw cms::Exception("NanoML",
                         "model " + metadata_.name + " reads trigger bits: name edm::TriggerResults in `triggers`.");
}

template <typename T>
std::vector<edm::EDGetTokenT<T>> NanoMLProducer::tokensOf(const std::vector<edm::InputTag>& tags) {
  std::vector<edm::EDGetTokenT<T>> tokens;
  for (const edm::InputTag& tag : tags)
    tokens.push_back(consumes<T>(tag));
  return tokens;
}

std::vector<edm::EDPutTokenT<nanoaod::FlatTable>> NanoMLProducer::putsOf(const std::vector<std::string>& instances) {
  std::vector<edm::EDPutTokenT<nanoaod::FlatTable>> puts;
  for (const std::string& instance : instances)
    puts.push_back(produces<nanoaod::FlatTable>(instance));
  return puts;
}

std::unique_ptr<nanoml::SharedModel> NanoMLProducer::initializeGlobalCache(const edm::ParameterSet& config) {
  return translated([&] {
    auto shared = load(config.getParameter<edm::FileInPath>("model").fullPath());
    refuseSelection(shared->model.metadata());
    checkEra(shared->model.metadata(), config.getParameter<std::string>("era"));
    return shared;
  });
}

void NanoMLProducer::globalEndJob(const nanoml::SharedModel* shared) {
  for (const std::string& warning : shared->outside.warnings())
    edm::LogWarning("NanoML") << warning;
  if (const std::string summary = shared->outside.summary(); !summary.empty())
    edm::LogInfo("NanoML") << summary;
}

void NanoMLProducer::fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
  edm::ParameterSetDescription description;
  description.setComment("Adds the scores of a model that `nanoml export` wrote to NanoAOD.");
  description.add<edm::FileInPath>("model")->setComment(
      "The ONNX file, such as MLTools/NanoML/data/model.onnx. model.json must be beside it.");
  description.add<Tags>("tables", {})
      ->setComment("The NanoAOD tables that have the model's columns, and only those; extensions are tables as well.");
  description.add<Tags>("correctedTables", {})
      ->setComment(
          "Tables with corrected values of the columns that a selection inside the model wants corrected. Without them "
          "it reads those of `tables`, and the column `corrected` of the output is false.");
  description.add<Tags>("triggers", {})
      ->setComment("Trigger results with the model's HLT_, L1_ and Flag_ columns; the first that has a bit counts.");
  description.add<std::string>("era", "")->setComment(
      "Era of the events. A model with a selection that depends on it is refused if it is of another one.");
  description.add<bool>("meanOfFolds", false)
      ->setComment(
          "Scores are the mean of all networks, not that of the network of the event's fold, which alone has not seen "
          "an event of the training.");
  description.add<std::vector<double>>("parameter", {})
      ->setComment(
          "Of a model that has a parameter: its values, for each of which there is a score. "
          "An empty list takes those of the training.");
  description.add<int>("precision", -1)->setComment("Bits of the mantissa that floats keep; -1 keeps all.");
  edm::ParameterSetDescription precisions;
  precisions.addWildcard<int>("*");
  description.add<edm::ParameterSetDescription>("precisions", precisions)
      ->setComment("The same for single columns of the output, by their names.");
  descriptions.addWithDefaultLabel(description);
}

void NanoMLProducer::produce(edm::Event& event, const edm::EventSetup&) {
  translated([&] {
    checkEvent(event);
    const nanoml::EventNumber number{event.id().run(), event.id().luminosityBlock(), event.id().event()};
    const nanoml::Scores scores =
        scorer_.score(columnsOf(event), mean_ ? std::nullopt : std::optional<nanoml::EventNumber>(number));
    for (std::size_t i = 0; i < puts_.size(); ++i)
      event.emplace(puts_[i], output_.table(i, scores, scorer_.decision()));
  });
}

void NanoMLProducer::checkEvent(const edm::Event& event) const {
  if (metadata_.inside && metadata_.inside->isData && *metadata_.inside->isData != event.isRealData())
    throw nanoml::Error("model " + metadata_.name + " has the selection of " +
                        (event.isRealData() ? "simulation inside, but these are data."
                                            : "data inside, but these are simulated events."));
}

std::vector<nanoml::Column>& NanoMLProducer::columnsOf(const edm::Event& event) {
  const auto read = [&](const std::vector<TableToken>& tokens, nanoml::TableColumns::Tables& tables) {
    tables.clear();
    for (const TableToken& token : tokens)
      tables.push_back(&event.get(token));
  };
  read(tables_, given_);
  read(correctedTables_, corrected_);
  std::vector<nanoml::Column>& columns = columns_.read(given_, corrected_);
  readBits(event);
  bits_.fill(columns);
  return columns;
}

void NanoMLProducer::readBits(const edm::Event& event) {
  bits_.clear();
  for (const edm::EDGetTokenT<edm::TriggerResults>& token : triggers_) {
    const edm::Handle<edm::TriggerResults> results = event.getHandle(token);
    if (!results.isValid() || bits_.add(*results))  // there are none of a process that ran for some of the files only
      continue;
    const std::vector<std::string>& names = results->getTriggerNames();  // of bits of L1, which are no paths
    bits_.add(*results, names.empty() ? event.triggerNames(*results).triggerNames() : names);
  }
  if (const std::string bits = bits_.unknown(); !bits.empty())
    refuseBits(event, bits);
}

void NanoMLProducer::refuseBits(const edm::Event& event, const std::string& bits) const {
  std::string looked, there;
  const auto list = [](std::string& names, const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (std::size_t menu = 0; menu < triggers_.size(); ++menu) {
    const edm::Handle<edm::TriggerResults> results = event.getHandle(triggers_[menu]);
    const std::string found =
        results.isValid() ? std::to_string(results->size()) + " paths" : std::string("not in the event");
    list(looked, triggerTags_[menu].encode() + " (" + found + ")");
  }
  std::vector<const edm::StableProvenance*> products;
  event.getAllStableProvenance(products);
  for (const edm::StableProvenance* product : products) {
    if (product->className() == "edm::TriggerResults")
      list(there,
           edm::InputTag(product->moduleLabel(), product->productInstanceName(), product->processName()).encode());
  }
  throw nanoml::Error("no trigger results have " + bits + ". `triggers` names " + looked + "; the event has " +
                      (there.empty() ? "no trigger results" : there) +
                      ". Name those that have the paths, or take a model whose selection does without.");
}

DEFINE_FWK_MODULE(NanoMLProducer);
