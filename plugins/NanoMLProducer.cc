// Adds the scores of a trained model to NanoAOD: as a table of their own if it scores events, as an extension of its
// collection's table if it scores objects. Everything but the model file and the tables stands in the model.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "DataFormats/NanoAOD/interface/FlatTable.h"
#include "FWCore/Framework/interface/Event.h"
#include "FWCore/Framework/interface/MakerMacros.h"
#include "FWCore/Framework/interface/stream/EDProducer.h"
#include "FWCore/ParameterSet/interface/ConfigurationDescriptions.h"
#include "FWCore/ParameterSet/interface/FileInPath.h"
#include "FWCore/ParameterSet/interface/ParameterSet.h"
#include "FWCore/ParameterSet/interface/ParameterSetDescription.h"
#include "FWCore/Utilities/interface/Exception.h"
#include "FWCore/Utilities/interface/InputTag.h"
#include "MLTools/NanoML/interface/Error.h"
#include "MLTools/NanoML/interface/Model.h"
#include "MLTools/NanoML/interface/Scorer.h"
#include "TableColumns.h"

class NanoMLProducer : public edm::stream::EDProducer<edm::GlobalCache<nanoml::Model>> {
public:
  NanoMLProducer(const edm::ParameterSet& config, const nanoml::Model* model);

  static std::unique_ptr<nanoml::Model> initializeGlobalCache(const edm::ParameterSet& config);
  static void globalEndJob(const nanoml::Model*) {}
  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions);

private:
  /// A column of the output: a label, for one value of the parameter.
  struct Output {
    std::string name, doc;
    std::size_t parameter, label;
  };

  void produce(edm::Event& event, const edm::EventSetup&) override;
  std::unique_ptr<nanoaod::FlatTable> tableOf(const nanoml::Scores& scores) const;
  static std::vector<Output> outputsOf(const nanoml::Metadata& metadata, const std::vector<float>& parameters);

  const nanoml::Metadata& metadata_;
  std::vector<edm::EDGetTokenT<nanoaod::FlatTable>> tokens_;
  nanoml::TableColumns columns_;
  nanoml::Scorer scorer_;
  std::vector<Output> outputs_;
  nanoml::TableColumns::Tables tables_;
};

namespace {
  /// Does something of the library, whose exception becomes one of the framework.
  template <typename Action>
  auto translated(Action&& action) {
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
                            " makes, so no table has it. Run it where the selection runs: with nano_postproc.py.");
    }
  }

  nanoml::Scorer scorerOf(const nanoml::Model& model, const edm::ParameterSet& config) {
    const auto values = config.getParameter<std::vector<double>>("parameter");
    return translated([&] { return nanoml::Scorer(model, std::vector<float>(values.begin(), values.end())); });
  }

  /// The end of a branch's name for a value of the parameter: mass600, mass0p5.
  std::string suffixOf(const std::string& column, float value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    std::string suffix = column + text;
    for (char& letter : suffix)
      letter = letter == '.' ? 'p' : letter == '-' ? 'm' : letter;
    suffix.erase(std::remove(suffix.begin(), suffix.end(), '+'), suffix.end());
    return suffix;
  }
}  // namespace

NanoMLProducer::NanoMLProducer(const edm::ParameterSet& config, const nanoml::Model* model)
    : metadata_(model->metadata()),
      columns_(model->columns()),
      scorer_(scorerOf(*model, config)),
      outputs_(outputsOf(metadata_, scorer_.parameters())) {
  for (const edm::InputTag& tag : config.getParameter<std::vector<edm::InputTag>>("tables"))
    tokens_.push_back(consumes<nanoaod::FlatTable>(tag));
  tables_.resize(tokens_.size());
  produces<nanoaod::FlatTable>();
}

std::unique_ptr<nanoml::Model> NanoMLProducer::initializeGlobalCache(const edm::ParameterSet& config) {
  return translated([&] {
    auto model = std::make_unique<nanoml::Model>(config.getParameter<edm::FileInPath>("model").fullPath());
    refuseSelection(model->metadata());
    return model;
  });
}

void NanoMLProducer::fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
  edm::ParameterSetDescription description;
  description.setComment("Adds the scores of a model that `nanoml export` wrote to NanoAOD.");
  description.add<edm::FileInPath>("model")->setComment(
      "The ONNX file, such as MLTools/NanoML/data/model.onnx. model.json must be beside it.");
  description.add<std::vector<edm::InputTag>>("tables", {})
      ->setComment("The NanoAOD tables that have the model's columns, and only those; extensions are tables as well.");
  description.add<std::vector<double>>("parameter", {})
      ->setComment("Of a model that has a parameter: its values, for each of which there is a score. "
                   "An empty list takes those of the training.");
  descriptions.addWithDefaultLabel(description);
}

std::vector<NanoMLProducer::Output> NanoMLProducer::outputsOf(const nanoml::Metadata& metadata,
                                                              const std::vector<float>& parameters) {
  // a branch is called TABLE_COLUMN, and the table of events has the name of the model
  const std::string prefix = metadata.collection.empty() ? "" : metadata.name + "_";
  std::vector<Output> outputs;
  for (std::size_t parameter = 0; parameter < std::max<std::size_t>(parameters.size(), 1); ++parameter) {
    const std::string suffix =
        parameters.empty() ? "" : suffixOf(metadata.parameter->column, parameters[parameter]);
    for (std::size_t label = 0; label < metadata.labels.size(); ++label)
      outputs.push_back({prefix + metadata.labels[label] + (suffix.empty() ? "" : "_" + suffix),
                         metadata.meaning(label) + " by " + metadata.name +
                             (suffix.empty() ? "" : " for " + suffix),
                         parameter,
                         label});
  }
  return outputs;
}

void NanoMLProducer::produce(edm::Event& event, const edm::EventSetup&) {
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    tables_[i] = &event.get(tokens_[i]);
  event.put(translated([&] { return tableOf(scorer_.score(columns_.read(tables_))); }));
}

std::unique_ptr<nanoaod::FlatTable> NanoMLProducer::tableOf(const nanoml::Scores& scores) const {
  const bool ofEvents = metadata_.collection.empty();
  auto table = std::make_unique<nanoaod::FlatTable>(
      scores.rows(), ofEvents ? metadata_.name : metadata_.collection, ofEvents, !ofEvents);
  std::vector<float> values(scores.rows());
  for (const Output& output : outputs_) {
    for (std::size_t row = 0; row < values.size(); ++row)
      values[row] = scores.at(output.parameter, row, output.label);
    table->addColumn<float>(output.name, values, output.doc);
  }
  return table;
}

DEFINE_FWK_MODULE(NanoMLProducer);
