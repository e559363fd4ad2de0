"""Decide about the events of a file by a model with its selection inside: decide.py MODEL.onnx FILE.root."""

from __future__ import annotations

import sys

from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile

model = Model(sys.argv[1])
with RootFile(sys.argv[2]) as file:
    events = file.read([*versions.IDENTIFIERS, *model.reads])
fold = fold_of(*(events[name] for name in versions.IDENTIFIERS), model.folds)
found = decide(model, events, fold)

print(f"{found.passed.sum()} of {len(found.passed)} events pass")
print(f"{(found.failed > 0).sum()} cannot be decided")
for cut, passed in found.cuts.items():
    print(f"{cut:24} {passed.sum()}")
print("mean mass of the Z candidate:", found.columns["ZCand_mass"][found.passed].mean())
print("scores:", dict(zip(model.outputs, found.scores[found.passed][0])))
