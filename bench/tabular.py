"""Models for tables: how well they separate, and what they cost, beside XGBoost and LightGBM by themselves.

    python bench/tabular.py [--seeds 5] [--models mlp tabular bdt] [--higgs Higgs_data.root]

The tables are 20 k events of HIGGS with 28 inputs (Baldi, Sadowski, Whiteson, Nature Communications 5 (2014) 4308), from a file in
the tutorials of ROOT's wheel, and examples/trilepton.yaml: 1,489 events with seven inputs in three classes. Everything has the same five
folds, and in each, three fifths of the events to learn from, one to stop by, and one to be tested on. The AUC is of all events, each with
the score of the fold that tests on it; the mean and the standard deviation are of trainings that differ in their seeds alone. The peers
have the same rate, patience and class balance as `bdt`, and otherwise their own defaults. Processor time is that of a training of all
five folds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import uproot
from common import CHECKOUT, Took, in_turns, parser
from numpy.typing import NDArray

from ML_processing.evaluation.baseline import baseline, flattened
from ML_processing.events.data import Table, read
from ML_processing.events.survey import Split, class_factors, make_splits
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata, write_metadata
from MLTools.NanoML.terminal.progress import silence

HIGGS = "lib/python*/site-packages/ROOT/tutorials/machine_learning/data/Higgs_data.root"
RATE, PATIENCE, ROUNDS = 0.05, 30, 1000


def convert_higgs(source: Path, output: Path) -> None:
    """HIGGS as an HDF5 file of the conversion."""
    with uproot.open(source) as file:
        parts = [file[tree].arrays(library="np") for tree in ("sig_tree", "bkg_tree")]
    names = [name.replace("-", "_") for name in parts[0] if name != "Type"]
    types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
    counts = [len(part["Type"]) for part in parts]
    rows = np.zeros(sum(counts), types + [(name, "f4") for name in names])
    rows["event"], rows["weight"], rows["label"] = np.arange(len(rows)), 1, np.repeat([0, 1], counts)
    for name in parts[0]:
        if name != "Type":
            rows[name.replace("-", "_")] = np.concatenate([part[name] for part in parts])
    column = {"dtype": "float32", "title": "", "source": "branch"}
    accounting = {"files": [], "entries": len(rows), "selected": len(rows), "sum_of_weights": 1.0, "cutflow": []}
    content = {
        "schema": 1,
        "creator": "bench",
        "classes": ["signal", "background"],
        "features": [{"name": name, **column} for name in names],
        "objects": {},
        "selection": None,
        "datasets": [{"name": "HIGGS", "class": None, "label": -1, "is_data": False, "books": accounting}],
    }
    with h5py.File(output, "w") as file:
        file.create_dataset("events", data=rows, chunks=True)
        write_metadata(file, HDF5Metadata.from_json(content))


def convert_example(directory: Path) -> None:
    """The HDF5 files of examples/trilepton.yaml."""
    text = (CHECKOUT / "examples" / "trilepton.yaml").read_text()
    (directory / "trilepton.yaml").write_text(text.replace("data/", f"{CHECKOUT}/examples/data/"))
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "run", str(directory / "trilepton.yaml"), "--to", "convert"]
    subprocess.run(line, check=True, capture_output=True)


def ours(files: list[Path], model: str, seed: int) -> float:
    """The AUC of a training."""
    config = Train(model=model, seed=seed, device="cpu", workers=1).with_defaults([], Path())
    with tempfile.TemporaryDirectory() as directory:
        return float(train(files, config, Path(directory))["auc"])


Fit = Callable[..., NDArray[Any]]


def lightgbm_alone(seed: int, training: tuple[Any, ...], stop: tuple[Any, ...], test: Any, classes: int) -> Any:
    """Class probabilities by LightGBM."""
    import lightgbm

    settings = {"objective": "multiclass", "num_class": classes, "learning_rate": RATE, "seed": seed, "num_threads": 1}
    rows = lightgbm.Dataset(training[0], training[1], weight=training[2])
    stopping = [lightgbm.early_stopping(PATIENCE, verbose=False)]
    others = [rows.create_valid(stop[0], stop[1], weight=stop[2])]
    booster = lightgbm.train({**settings, "verbosity": -1}, rows, ROUNDS, others, callbacks=stopping)
    return booster.predict(test, num_threads=1)


def xgboost_alone(seed: int, training: tuple[Any, ...], stop: tuple[Any, ...], test: Any, classes: int) -> Any:
    """Class probabilities by XGBoost."""
    import xgboost

    settings = {"objective": "multi:softprob", "num_class": classes, "eta": RATE, "seed": seed, "nthread": 1}
    rows, others = (xgboost.DMatrix(x, y, weight=w) for x, y, w in (training, stop))
    booster = xgboost.train(
        settings, rows, ROUNDS, [(others, "stop")], early_stopping_rounds=PATIENCE, verbose_eval=False
    )
    return booster.predict(xgboost.DMatrix(test), iteration_range=(0, booster.best_iteration + 1))


PEERS: dict[str, Fit] = {"lightgbm": lightgbm_alone, "xgboost": xgboost_alone}


def theirs(files: list[Path], peer: str, seed: int) -> float:
    """The AUC of a peer on the same folds."""
    table = read(files, Train())
    splits = make_splits(table, 5)
    if peer == "scikit-learn":
        return _area(table, baseline(table, splits, seed))
    scores = np.empty((len(table), len(table.classes)), np.float32)
    for split in splits:
        parts = [_part(table, rows, split) for rows in (split.training, split.validation)]
        scores[split.test] = PEERS[peer](seed, *parts, flattened(table, split.test), len(table.classes))
    return _area(table, scores)


def _part(table: Table, rows: NDArray[np.int64], split: Split) -> tuple[Any, Any, Any]:
    weights = np.abs(table.weights)
    factors = class_factors(table.labels[split.training], weights[split.training], table.classes)
    return flattened(table, rows), table.labels[rows], (weights * factors[table.labels])[rows]


def _area(table: Table, scores: NDArray[np.float32]) -> float:
    judge = BoundDiscriminant.probability("signal", table.classes)
    return float(judge.area(scores, table.labels, table.weights).value or np.nan)


def main() -> None:
    """Train everything with every seed, and print the AUC and the processor time."""
    options_of = parser((__doc__ or "").partition("\n")[0])
    options_of.add_argument("--seeds", type=int, default=5)
    options_of.add_argument("--models", nargs="+", default=["mlp", "tabular", "bdt", "scikit-learn", *PEERS])
    options_of.add_argument("--higgs", type=Path, default=next((CHECKOUT / ".venv-root").glob(HIGGS), None))
    options = options_of.parse_args()
    if options.only:
        silence()
        directory, model, seed = options.only
        files = sorted(Path(directory).glob("*.h5"))
        by = theirs if model in (*PEERS, "scikit-learn") else ours
        Took.by(lambda: by(files, model, int(seed))).tell()
        return
    with tempfile.TemporaryDirectory() as directory:
        tables = {}
        convert_example(Path(directory))
        tables["trilepton"] = Path(directory) / "trilepton" / "hdf5"
        if options.higgs is not None:
            tables["HIGGS"] = Path(directory) / "HIGGS"
            tables["HIGGS"].mkdir()
            convert_higgs(options.higgs, tables["HIGGS"] / "HIGGS.h5")
        for name, where in tables.items():
            sides = {
                (model, seed): (where, model, seed) for model in options.models for seed in range(1, options.seeds + 1)
            }
            took = in_turns(__file__, sides, 1)
            for model in options.models:
                found = [took[model, seed] for seed in range(1, options.seeds + 1)]
                areas, times = np.array([it.result for it in found]), [it.processor for it in found]
                spread = np.std(areas, ddof=1) if len(areas) > 1 else 0.0
                line = f"{name:10} {model:13} AUC {areas.mean():.4f} +- {spread:.4f}   {np.mean(times):6.1f} s"
                sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
