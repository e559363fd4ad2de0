"""Makes RNTuples as CMSSW writes NanoAOD: python cmssw_rntuples.py, with ROOT from 6.40.

uproot cannot write such files, so what ROOT 6.40 made is kept in the repository. `RECORDS` is what is proposed for CMSSW
20_1: tables with one row, and trigger paths, are records; all members have the names of a TTree as well, which are
projections; and a path that comes with a later run is a column that begins there. `LISTS` is what CMSSW 16_0 writes: a
table with one row is a list of one, there are no such names, and trigger paths are fields of their own. Beyond CMSSW, pages
are small, one number is rounded, and another could have been stored in two ways.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

RECORDS, LISTS = (Path(__file__).with_name(f"cmssw_{name}.root") for name in ("records", "lists"))
EVENTS = 40  # the second half is another cluster, and another run


def event(number: int) -> dict[str, Any]:
    muons = range(number % 4)
    return {
        "run": 1 + number // 20,
        "luminosityBlock": 5,
        "event": number,
        "genWeight": 1.5 if number % 7 else -0.5,
        "Rho_all": number / 4,
        "PSWeight": [1.0 + number / 4] * (number % 3),
        "nMuon": len(muons),
        "Muon_pt": [10 * number + muon + 0.25 for muon in muons],
        "Muon_charge": [1 - 2 * (muon % 2) for muon in muons],
        "Muon_tightId": [muon == 0 for muon in muons],
        "MET_pt": number + 0.5,
        "MET_phi": -number / 16,
        "HLT_IsoMu24": number % 2 == 0,
        "HLT_Mu50": number >= 20 and number % 3 == 0,
        "HLTriggerFinalPath": True,
    }


_CODE = """
#include <ROOT/RField.hxx>
#include <ROOT/RField/RFieldRecord.hxx>
#include <ROOT/RField/RFieldSequenceContainer.hxx>
#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleWriter.hxx>
#include <TFile.h>
#include <TObjString.h>
#include <cstring>

using ROOT::RFieldBase, ROOT::RNTupleModel, ROOT::RNTupleWriter, ROOT::RRecordField, ROOT::RVectorField;
using Members = std::vector<std::pair<std::string, std::string>>;

std::unique_ptr<RFieldBase> record(const std::string &name, const Members &members) {
  std::vector<std::unique_ptr<RFieldBase>> fields;
  for (auto &[member, type] : members) {
    fields.push_back(RFieldBase::Create(member, type).Unwrap());
    fields.back()->SetDescription("title of " + member);
  }
  return std::make_unique<RRecordField>(name, std::move(fields));
}

void project(RNTupleModel &model, const std::string &table, const Members &members, bool is_list) {
  for (auto &[member, type] : members) {
    const auto name = member.rfind("HLT", 0) == 0 ? member : table + "_" + member;
    auto field = RFieldBase::Create(name, is_list ? "std::vector<" + type + ">" : type).Unwrap();
    field->SetDescription("title of " + member);
    const auto source = table + (is_list ? "._0." : ".") + member;
    model.AddProjectedField(std::move(field), [=](const std::string &asked) {
      return is_list && asked == name ? table : source;
    }).ThrowOnError();
  }
}

void write(const char *path, bool records) {
  TFile file(path, "RECREATE");
  ROOT::RNTupleWriteOptions options;
  options.SetCompression(505);
  options.SetInitialUnzippedPageSize(32);
  options.SetMaxUnzippedPageSize(32);
  const Members muon{{"pt", "float"}, {"charge", "std::int32_t"}, {"tightId", "bool"}}, met{{"pt", "float"}, {"phi", "float"}};
  const Members paths{{"IsoMu24", "bool"}, {"HLTriggerFinalPath", "bool"}};
  auto model = RNTupleModel::CreateBare();
  for (auto name : {"run", "luminosityBlock"}) model->AddField(RFieldBase::Create(name, "std::uint32_t").Unwrap());
  model->AddField(RFieldBase::Create("event", "std::uint64_t").Unwrap());
  auto list = RVectorField::CreateUntyped("Muon", record("_0", muon));
  list->SetDescription("all muons");
  model->AddField(std::move(list));
  auto weight_field = RFieldBase::Create("genWeight", "float").Unwrap();
  using Type = ROOT::ENTupleColumnType;
  weight_field->SetColumnRepresentatives({{Type::kSplitReal32}, {Type::kReal16}});
  model->AddField(std::move(weight_field));
  auto rho_field = std::make_unique<ROOT::RField<float>>("Rho_all");
  rho_field->SetTruncated(20);
  model->AddField(std::move(rho_field));
  model->AddField(RFieldBase::Create("PSWeight", "std::vector<float>").Unwrap());
  if (records) {
    model->AddField(record("MET", met));
    model->AddField(record("HLT", paths));
    project(*model, "Muon", muon, true);
    project(*model, "MET", met, false);
    project(*model, "HLT", paths, false);
  } else {
    model->AddField(RVectorField::CreateUntyped("MET", record("_0", met)));
    for (auto name : {"HLT_IsoMu24", "HLTriggerFinalPath", "HLT_Mu50"})
      model->AddField(RFieldBase::Create(name, "bool").Unwrap());
  }
  model->Freeze();
  auto writer = RNTupleWriter::Append(std::move(model), "Events", file, options);
  auto entry = writer->GetModel().CreateBareEntry();
  std::uint32_t run, section = 5;
  std::uint64_t number;
  float weight, rho;
  std::vector<float> weights;
  std::vector<unsigned char> muons, missing(2 * sizeof(float)), fired(3);
  auto bind = [&] {
    entry = writer->GetModel().CreateBareEntry();
    entry->BindRawPtr<void>("run", &run);
    entry->BindRawPtr<void>("luminosityBlock", &section);
    entry->BindRawPtr<void>("event", &number);
    entry->BindRawPtr<void>("genWeight", &weight);
    entry->BindRawPtr<void>("Rho_all", &rho);
    entry->BindRawPtr<void>("PSWeight", &weights);
    entry->BindRawPtr<void>("Muon", &muons);
    if (records) {
      entry->BindRawPtr<void>("MET", missing.data());
      entry->BindRawPtr<void>("HLT", fired.data());
      if (number == 20) entry->BindRawPtr<void>("HLT_Mu50", &fired[2]);
    } else {
      entry->BindRawPtr<void>("MET", &missing);
      entry->BindRawPtr<void>("HLT_IsoMu24", &fired[0]);
      entry->BindRawPtr<void>("HLTriggerFinalPath", &fired[1]);
      entry->BindRawPtr<void>("HLT_Mu50", &fired[2]);
    }
  };
  number = 0;
  bind();
  for (; number < EVENTS; ++number) {
    if (number == 20) {
      writer->CommitCluster();
      if (records) {
        auto updater = writer->CreateModelUpdater();
        updater->BeginUpdate();
        updater->AddField(RFieldBase::Create("HLT_Mu50", "bool").Unwrap());
        updater->CommitUpdate();
        bind();
      }
    }
    run = 1 + number / 20;
    weight = number % 7 ? 1.5 : -0.5;
    rho = number / 4.f;
    weights.assign(number % 3, 1 + number / 4.f);
    struct Muon { float pt; std::int32_t charge; bool tightId; };
    muons.assign(number % 4 * sizeof(Muon), 0);
    for (unsigned i = 0; i < number % 4; ++i) {
      const Muon made{10.f * number + i + 0.25f, 1 - 2 * int(i % 2), i == 0};
      std::memcpy(muons.data() + i * sizeof(Muon), &made, sizeof(Muon));
    }
    const float met_pt = number + 0.5f, met_phi = -(number / 16.f);
    std::memcpy(missing.data(), &met_pt, sizeof(float));
    std::memcpy(missing.data() + sizeof(float), &met_phi, sizeof(float));
    fired = {number % 2 == 0, 1, number >= 20 && number % 3 == 0};
    writer->Fill(*entry);
  }
  entry.reset();
  writer.reset();

  auto runs = RNTupleModel::Create();
  auto run_of = runs->MakeField<std::uint32_t>("run");
  auto count = runs->MakeField<std::int64_t>("genEventCount");
  auto sum = runs->MakeField<double>("genEventSumw"), squares = runs->MakeField<double>("genEventSumw2");
  auto scales = runs->MakeField<std::vector<double>>("LHEScaleSumw");
  auto sections = RNTupleModel::Create();
  auto run_with = sections->MakeField<std::uint32_t>("run"), block = sections->MakeField<std::uint32_t>("luminosityBlock");
  {
    auto run_writer = RNTupleWriter::Append(std::move(runs), "Runs", file, options);
    auto section_writer = RNTupleWriter::Append(std::move(sections), "LuminosityBlocks", file, options);
    for (*run_of = 1; *run_of < 3; ++*run_of) {
      *count = 20;
      *sum = 24;
      *squares = 39;
      *scales = {1.1, 1.0, 0.9};
      run_writer->Fill();
      *run_with = *run_of;
      *block = 5;
      section_writer->Fill();
    }
  }
  TObjString tag("made for CMSSW");
  file.WriteTObject(&tag, "tag");
}
"""


def main() -> None:
    import ROOT

    ROOT.gInterpreter.Declare(_CODE.replace("EVENTS", str(EVENTS)))
    ROOT.write(str(RECORDS), True)
    ROOT.write(str(LISTS), False)


if __name__ == "__main__":
    main()
