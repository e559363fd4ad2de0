"""Decisions and scores of a model with its selection inside, in RDataFrame: decide_in_rdataframe.py MODEL.onnx INPUT.root OUTPUT.root."""

from __future__ import annotations

import sys

import ROOT

ROOT.gSystem.Load("libMLToolsNanoML")
ROOT.gInterpreter.Declare(
    """
    #include <vector>

    #include "MLTools/NanoML/interface/Scorer.h"
    #include "ROOT/RVec.hxx"

    template <typename T>
    nanoml::Column column(const T& value) { return {&value, 1}; }
    template <typename T>
    nanoml::Column column(const ROOT::RVec<T>& values) { return {values.data(), values.size()}; }

    class Decider {
    public:
      Decider(const std::string& path, unsigned int slots) : model_(path), scorers_(slots, nanoml::Scorer(model_)) {}
      const nanoml::Model& model() const { return model_; }

      /// The scores of an event; none if it does not pass.
      template <typename... Columns>
      ROOT::RVecF scores(unsigned int slot, const nanoml::EventNumber& number, const Columns&... columns) {
        nanoml::Scorer& scorer = scorers_[slot];
        const nanoml::Scores scores = scorer.score({column(columns)...}, number);
        if (scorer.decision().failed() || !scorer.decision().passed())
          return {};
        ROOT::RVecF found;
        for (std::size_t label = 0; label < scores.labels(); ++label)
          found.push_back(scores.at(0, 0, label));
        return found;
      }

    private:
      nanoml::Model model_;
      std::vector<nanoml::Scorer> scorers_;
    };
    """
)
model, file, output = sys.argv[1:]
events = ROOT.RDataFrame("Events", file)
ROOT.gInterpreter.Declare(f'Decider decider("{model}", {events.GetNSlots()});')
names = ", ".join(str(column.name) for column in ROOT.decider.model().columns())
labels = [str(label) for label in ROOT.decider.model().metadata().labels]
events = events.Define("scores", f"decider.scores(rdfslot_, {{run, luminosityBlock, event}}, {names})").Filter(
    "!scores.empty()"
)
for number, label in enumerate(labels):
    events = events.Define(f"score_{label}", f"scores[{number}]")
events.Snapshot("Events", output, ["run", "luminosityBlock", "event", *(f"score_{label}" for label in labels)])
