"""Draws the pictures of the manual: python doc/pictures.py writes doc/images/*.svg."""

from __future__ import annotations

import math
from pathlib import Path

from drawing import Picture

IMAGES = Path(__file__).parent / "images"


def pipeline() -> Picture:
    """What becomes of the events."""
    it = Picture(360)
    for x, y, text, kind in (
        (6, 24, ("NanoAOD", "ROOT files"), "data"),
        (166, 24, ("skims", "new columns"), "data"),
        (326, 24, ("HDF5", "arrays"), "data"),
        (326, 172, ("networks", "one per fold"), "work"),
        (166, 172, ("model", "ONNX file"), "work"),
        (6, 172, ("scores", "ROOT files"), "ours"),
        (326, 288, ("report", "plots, words"), "ours"),
        (6, 288, ("result", "limit"), "ours"),
    ):
        it.box(x, y, 108, 62, text, kind)
    it.arrow((114, 55), (166, 55), text="skim", at=(138, 46))
    it.arrow((274, 55), (326, 55), text="convert", at=(300, 46))
    it.arrow((380, 86), (380, 172), text="train", at=(403, 134))
    it.arrow((326, 203), (274, 203), text="export", at=(300, 194))
    it.arrow((166, 203), (114, 203), text="score", at=(140, 194))
    it.arrow((220, 86), (220, 120), (60, 120), (60, 172), text="events to score", at=(140, 138), dashed=True)
    it.arrow((380, 234), (380, 288), text="evaluate", at=(349, 266))
    it.arrow((60, 234), (60, 288), text="histogram, fit", at=(112, 266))
    return it


def house() -> Picture:
    """The parts of the code, and what they share."""
    it = Picture(640)
    top = 6
    for title, rooms in (
        (("ML_processing/", "Python 3.10, PyTorch"), "train tune networks evaluate export"),
        (("data_processing/", "Python 3.9, what CMSSW ships"), "datasets skim convert merge score histograms"),
        (("statistical_analysis/", "Python 3.10, pyhf"), "model fit"),
    ):
        names = rooms.split()
        height = 58 + 40 * math.ceil(len(names) / 3)
        it.box(6, top, 428, height, title, "group")
        for number, name in enumerate(names):
            it.box(20 + 136 * (number % 3), top + 52 + 40 * (number // 3), 128, 32, (name,), "work")
        top += height + 30
        if title[0].startswith("ML"):
            it.arrow((150, top), (150, top - 30), text="HDF5", at=(122, top - 10))
            it.arrow((290, top - 30), (290, top), text="ONNX", at=(320, top - 10))
        elif title[0].startswith("data"):
            it.arrow((220, top - 30), (220, top), text="histograms", at=(266, top - 10))
    it.words(220, top - 10, "all use")
    it.box(6, top, 428, 140, ("python/ = MLTools.NanoML", "runs in CMSSW and on the grid"), "group")
    for number, name in enumerate(["selection", "settings", "tasks", "batch", "grid", "model"]):
        it.box(20 + 136 * (number % 3), top + 52 + 40 * (number // 3), 128, 32, (name,), "ours")
    it.height = top + 146
    return it


FOLDERS = {
    "cli": "the command line",
    "commands": "each command, and its options",
    "doctor": "what a machine lacks",
    "inspection": "what is in a file",
    "batch": "HTCondor, Slurm, CRAB",
    "workflow": "tasks, records, what is to be done",
    "report": "the look of figures and pages",
    "config": "the settings of an analysis",
    "fwlite, score, ...": "NanoML in CMSSW; the example",
    "nanoaodtools": "modules of nanoAOD-tools",
    "model": "the ONNX file that describes itself",
    "selection": "cuts, columns, weights, shifts",
    "corrections": "scale factors, calibrations",
    "contracts": "what the parts exchange",
    "nanoaod": "events as arrays, folds, accounting",
    "rootio": "ROOT files, read and written",
    "grid": "proxies and tokens",
    "schema, errors, ...": "dataclasses as settings, progress",
}
"""The folders of python/, each above those from which it may import."""


def folders() -> Picture:
    """The order of the folders of python/."""
    step = 34
    it = Picture(6 + step * len(FOLDERS))
    for number, (name, meaning) in enumerate(FOLDERS.items()):
        it.box(6, 6 + step * number, 160, step - 6, (name,), "ours")
        it.words(178, 25 + step * number, meaning, "s left")
    return it


def cern() -> Picture:
    """The systems at CERN that one meets, and where files lie."""
    it = Picture(490)
    for x, y, text, kind in (
        (6, 12, ("you", "ssh"), "ours"),
        (150, 12, ("LXPLUS", "edit, build,", "submit"), "work"),
        (294, 12, ("HTCondor", "thousands of", "processors"), "work"),
        (6, 142, ("proxy", "who you are,", "to the grid"), "ours"),
        (150, 142, ("AFS", "home: code,", "up to 10 GB"), "data"),
        (294, 142, ("EOS", "data, results:", "terabytes"), "data"),
        (6, 272, ("DAS", "which files a", "dataset has"), "ours"),
        (150, 272, ("CVMFS", "software,", "read only"), "data"),
        (294, 272, ("CRAB", "jobs on", "the grid"), "work"),
    ):
        it.box(x, y, 122, 82, text, kind)
    it.box(6, 412, 410, 66, ("sites", "computing centres, with the NanoAOD of CMS"), "data")
    it.arrow((128, 53), (150, 53))
    it.arrow((272, 53), (294, 53))
    it.arrow((211, 94), (211, 142))
    it.arrow((355, 94), (355, 142), text="copies", at=(385, 122))
    it.arrow((240, 94), (240, 116), (320, 116), (320, 142))
    it.arrow((355, 354), (355, 412))
    it.arrow((67, 354), (67, 412), text="knows", at=(96, 388), dashed=True)
    it.arrow((416, 53), (430, 53), (430, 445), (416, 445), text="XRootD", at=(398, 398))
    return it


def kfold() -> Picture:
    """Which part of the events each network is trained, stopped and tested on."""
    it = Picture(250)
    for fold in range(5):
        it.words(134 + 66 * fold, 22, f"fold {fold + 1}")
        it.words(50, 56 + 38 * fold, f"network {fold + 1}")
        for part in range(5):
            kind = "ours" if part == fold else "work" if part == (fold + 1) % 5 else "data"
            text = {"ours": "test", "work": "stop", "data": "train"}[kind]
            it.box(104 + 66 * part, 34 + 38 * fold, 60, 32, corner=4, kind=kind)
            it.words(134 + 66 * part, 55 + 38 * fold, text, "t" if kind == "ours" else "s")
    it.words(220, 242, "Each event is scored by the network that it tests.")
    return it


def overtraining() -> Picture:
    """The loss of training and validation events, epoch by epoch."""
    it = Picture(250)
    it.axes(40, 205, 380, 165, "epoch", "loss")
    x = [n / 60 for n in range(61)]
    training = [(45 + 360 * t, 205 - 28 - 112 * math.exp(-4.5 * t)) for t in x]
    validation = [(45 + 360 * t, 205 - 52 - 88 * math.exp(-6 * t) - 52 * max(0.0, t - 0.36) ** 1.3) for t in x]
    it.curve(training, "blue")
    it.curve(validation, "red")
    it.words(360, 198, "training events", "s")
    it.words(355, 108, "other events", "s")
    best, lowest = max(validation, key=lambda point: point[1])
    it.arrow((best, 60), (best, lowest - 4), text="the best epoch is kept", at=(best, 52), dashed=True)
    return it


def padding() -> Picture:
    """Muons of three events become a rectangular array and a mask."""
    it = Picture(300)
    events = [(62, 38), (51,), (88, 45, 21, 12)]
    it.words(100, 22, "Muon_pt in the file", "t")
    it.words(320, 22, "network's input, at most 3", "t")
    for row, values in enumerate(events):
        y = 38 + 42 * row
        for number, value in enumerate(values):
            it.box(16 + 44 * number, y, 40, 34, corner=3, kind="data" if number < 3 else "alert")
            it.words(36 + 44 * number, y + 23, str(value), "n")
        for number in range(3):
            full = number < len(values)
            it.box(250 + 48 * number, y, 44, 34, corner=3, kind="data" if full else "group")
            it.words(272 + 48 * number, y + 23, str(values[number]) if full else "0", "n" if full else "s")
    it.arrow((198, 96), (242, 96))
    it.words(320, 190, "mask", "t")
    for row, values in enumerate(events):
        for number in range(3):
            it.words(272 + 48 * number, 214 + 22 * row, "1" if number < len(values) else "0", "n")
    it.words(108, 214, "Objects are sorted first,")
    it.words(108, 234, "so that the hardest stay.")
    it.words(108, 254, "The mask tells zeros from")
    it.words(108, 274, "objects.")
    return it


def discriminant() -> Picture:
    """From the probabilities of a network to one number."""
    it = Picture(300)
    for number, (name, probability, share) in enumerate(
        (("signal", "0.60", "0.01"), ("WZ", "0.10", "0.90"), ("ZG", "0.30", "0.09"))
    ):
        y = 40 + 56 * number
        it.box(6, y, 110, 42, (name,), "work")
        it.words(168, y + 27, probability, "n")
        it.words(222, y + 27, "×", "n")
        it.words(272, y + 27, share, "n")
        it.arrow((304, y + 21), (340, 117))
    it.words(168, 24, "network")
    it.words(272, 24, "frequency")
    it.box(344, 88, 90, 58, ("D", "0.049"), "ours")
    it.words(220, 232, "D = 0.60·0.01 / (0.60·0.01 + 0.10·0.90 + 0.30·0.09)", "s")
    it.words(220, 262, "The network says what the event looks like;")
    it.words(220, 282, "the frequencies say what is likely in the first place.")
    return it


def weights() -> Picture:
    """An event's weight, from the file to the loss."""
    it = Picture(420)
    steps = (
        (("genWeight", "from the generator, may be negative"), "data"),
        (("× cross section × luminosity", "/ sum of genWeight of all input files"), "work"),
        (("× corrections", "pile-up, identification, b-tagging, ..."), "work"),
        (("weight of the event", "in HDF5 and scores: all plots and templates"), "ours"),
        (("× one factor for each class", "all classes have the same total"), "work"),
        (("weight in the loss", "of the training alone"), "ours"),
    )
    for number, (text, kind) in enumerate(steps):
        it.box(20, 8 + 68 * number, 400, 50, text, kind)
        if number:
            it.arrow((220, 8 + 68 * number - 18), (220, 8 + 68 * number))
    return it


def variations() -> Picture:
    """Two kinds of systematic variations, and what becomes of them."""
    it = Picture(400)
    it.box(6, 34, 200, 66, ("weight", "muon identification ±1σ"), "work")
    it.box(234, 34, 200, 66, ("shift", "jet energy scale ±1σ"), "work")
    it.words(106, 22, "the same events", "s")
    it.words(334, 22, "other events", "s")
    it.box(6, 142, 200, 66, ("columns", "weight up, weight down"), "data")
    it.box(234, 142, 200, 66, ("skims of their own", "jets up, jets down"), "data")
    it.arrow((106, 100), (106, 142), text="skim", at=(130, 126))
    it.arrow((334, 100), (334, 142), text="skim", at=(358, 126))
    it.box(120, 250, 200, 58, ("one network", "trained on nominal events"), "ours")
    it.arrow((106, 208), (106, 230), (180, 230), (180, 250))
    it.arrow((334, 208), (334, 230), (260, 230), (260, 250), text="score", at=(220, 232))
    it.box(
        46, 338, 348, 52, ("templates: nominal, up, down", "one nuisance parameter of the fit for each pair"), "ours"
    )
    it.arrow((220, 308), (220, 338), text="histogram", at=(262, 328))
    return it


PICTURES = {
    each.__name__: each
    for each in (pipeline, house, folders, cern, kfold, overtraining, padding, discriminant, weights, variations)
}

if __name__ == "__main__":
    for name, picture in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(picture().svg(), encoding="utf-8")
