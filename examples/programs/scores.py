"""Print the scores of the events of a file: scores.py MODEL.onnx FILE.root."""

from __future__ import annotations

import sys

from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile

model = Model(sys.argv[1])
with RootFile(sys.argv[2]) as file:
    wanted = (*versions.IDENTIFIERS, *model.reads)
    names = {name: versions.resolve(name, file.branches) for name in wanted}
    for start, stop in file.ranges(list(names.values()), 10_000):
        arrays = file.read(list(names.values()), start, stop)
        events = {name: arrays[found] for name, found in names.items()}
        fold = fold_of(*(events[name] for name in versions.IDENTIFIERS), model.folds)
        for event, scores in zip(events["event"], model.scores(events, fold)):
            named = zip(model.outputs, scores)
            print(f"{event}:", *(f"{name} {score:.3f}" for name, score in named))
