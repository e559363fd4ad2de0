"""Yields of the signal region from the events that a single network has not seen."""

from __future__ import annotations

import uproot

from MLTools.NanoML.nanoaod.folds import SINGLE, fold_of

numbers = ["run", "luminosityBlock", "event"]
for dataset in ("signal", "WZ", "ZG"):
    skims, friends = (f"analysis/{each}/{dataset}/*.root:Events" for each in ("skims", "scores"))
    skim = uproot.concatenate(skims, numbers, library="np")
    scores = uproot.concatenate(friends, ["eventWeight", "in_SR"], library="np")
    weights = scores["eventWeight"].astype(float)
    unseen = fold_of(*(skim[name] for name in numbers), SINGLE) == 0
    factor = weights.sum() / weights[unseen].sum()
    mine = factor * weights[unseen & scores["in_SR"]]
    error = (mine**2).sum() ** 0.5
    print(f"{dataset} in SR, from test events alone: {mine.sum():.6g} ± {error:.6g}")
