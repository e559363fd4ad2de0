// Keeps the events that pass the selection inside a model, as NanoMLProducer has written it into its table.

#include "DataFormats/NanoAOD/interface/FlatTable.h"
#include "FWCore/Framework/interface/Event.h"
#include "FWCore/Framework/interface/MakerMacros.h"
#include "FWCore/Framework/interface/global/EDFilter.h"
#include "FWCore/ParameterSet/interface/ConfigurationDescriptions.h"
#include "FWCore/ParameterSet/interface/ParameterSet.h"
#include "FWCore/ParameterSet/interface/ParameterSetDescription.h"
#include "FWCore/Utilities/interface/EDGetToken.h"
#include "FWCore/Utilities/interface/Exception.h"
#include "FWCore/Utilities/interface/InputTag.h"

class NanoMLFilter : public edm::global::EDFilter<> {
public:
  explicit NanoMLFilter(const edm::ParameterSet& config)
      : scores_(consumes<nanoaod::FlatTable>(config.getParameter<edm::InputTag>("scores"))),
        keepFailed_(config.getParameter<bool>("keepFailed")) {}

  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
    edm::ParameterSetDescription description;
    description.setComment("Keeps the events that pass the selection inside a model.");
    description.add<edm::InputTag>("scores")->setComment("The NanoMLProducer with that model.");
    description.add<bool>("keepFailed", true)
        ->setComment("Keep events on which the selection cannot decide as well; the column `failed` tells why.");
    descriptions.addWithDefaultLabel(description);
  }

private:
  bool filter(edm::StreamID, edm::Event& event, const edm::EventSetup&) const override {
    const nanoaod::FlatTable& table = event.get(scores_);
    const int passed = table.columnIndex("passed"), failed = table.columnIndex("failed");
    if (passed < 0 || failed < 0)
      throw cms::Exception(
          "NanoML",
          "table " + table.name() + " says of no event whether it passes: its model has no selection inside.");
    return table.getAnyValue(0, passed) > 0 || (keepFailed_ && table.getAnyValue(0, failed) > 0);
  }

  const edm::EDGetTokenT<nanoaod::FlatTable> scores_;
  const bool keepFailed_;
};

DEFINE_FWK_MODULE(NanoMLFilter);
