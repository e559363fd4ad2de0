"""The mass of the Z candidate in the signal region, by RDataFrame."""

from __future__ import annotations

import glob

import ROOT

for dataset in ("signal", "WZ", "ZG"):
    skim, scores = ROOT.TChain("Events"), ROOT.TChain("Events")
    for chain, directory in ((skim, "skims"), (scores, "scores")):
        for path in sorted(glob.glob(f"analysis/{directory}/{dataset}/*.root")):
            chain.Add(path)
    skim.AddFriend(scores, "scores")
    events = ROOT.RDataFrame(skim).Filter("in_SR")
    axis = ("mass", ";m(Z) [GeV];Events", 6, 60, 120)
    found = events.Histo1D(axis, "ZCand_mass", "eventWeight")
    bins = range(found.GetNbinsX() + 2)
    total = sum(found.GetBinContent(i) for i in bins)
    variance = sum(found.GetBinError(i) ** 2 for i in bins)
    print(f"{dataset} in SR: {total:.6g} ± {variance**0.5:.6g}")
