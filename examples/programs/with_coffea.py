"""The mass of the Z candidate in the signal region, by coffea."""

from __future__ import annotations

import glob

import hist
from coffea.nanoevents import BaseSchema, NanoEventsFactory

for dataset in ("signal", "WZ", "ZG"):
    found = hist.Hist(hist.axis.Regular(6, 60, 120, name="mass"), storage="weight")
    for path in glob.glob(f"copies/scores/{dataset}/*.root"):
        file = {path: "Events"}
        factory = NanoEventsFactory.from_root(file, schemaclass=BaseSchema, mode="virtual")
        events = factory.events()
        inside = events["in_SR"]
        found.fill(events["ZCand_mass"][inside], weight=events["eventWeight"][inside])
    total = found.sum(flow=True)
    print(f"{dataset} in SR: {total.value:.6g} ± {total.variance**0.5:.6g}")
