"""Our models beside XGBoost, LightGBM and the networks of weaver-core, on the same events: quality and processor time.

    python bench/field.py [--on trilepton leptons higgs] [--models mlp deepsets] [--trials 20] [--seeds 3] [--weaver DIR]

Events: the examples trilepton (seven columns) and leptons (objects), and HIGGS (20 k events, 28 columns), which is in the wheel `root` of
PyPI, or is named by --higgs. XGBoost and LightGBM take part if they are installed, weaver's ParticleNet and Particle Transformer if
--weaver names the directory of weaver-core: in NanoML's loop, with the optimizer, batches, epochs and widths of ours. With --trials all
but weaver's are also tuned, with so many trials each; with --epochs all networks have so many, and a cosine schedule.

Each training has five folds, on one thread; the AUC is that of all events, each scored by a model that has not seen it. Its error is
statistical, "seeds" is the spread of the seeds, and the error of a difference to a peer has both, with the same events on both sides.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import optuna
import torch
import uproot
import yaml
from common import CHECKOUT, describe_events, parser
from field_trees import TREES, Trees
from numpy.typing import NDArray

from ML_processing.events.data import Table
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.network import make_network, model_class
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import describe
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from ML_processing.tuning.space import Space
from ML_processing.tuning.study import Study
from ML_processing.tuning.trial import TrialData, work
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.config.training import MODELS, Train
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.terminal.progress import silence

HERE = Path(__file__).resolve().parent
EXAMPLES, HIGGS = ("trilepton", "leptons"), "tutorials/machine_learning/data/Higgs_data.root"
FOLDS = 5
WEAVER = [f"{HERE / 'field_weaver.py'}:{name}" for name in ("ParticleNet", "ParticleTransformer")]


def make_example(name: str, directory: Path) -> list[Path]:
    """The HDF5 files of an example."""
    content = yaml.safe_load((CHECKOUT / "examples" / f"{name}.yaml").read_text())
    content["workdir"] = name
    for dataset in content["datasets"].values():
        dataset["files"] = str(CHECKOUT / "examples" / dataset["files"])
    place = directory / f"{name}.yaml"
    place.write_text(yaml.safe_dump(content, sort_keys=False))
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "run", place, "--to", "convert"]
    subprocess.run(line, check=True, capture_output=True)
    return sorted(directory.glob(f"{name}/hdf5/*.h5"))


def make_higgs(source: Path, directory: Path) -> list[Path]:
    """HIGGS as the conversion would write it."""
    with uproot.open(source) as file:
        trees = [file[name].arrays(library="np") for name in ("sig_tree", "bkg_tree")]
    names = {name: name.replace("-", "_") for name in trees[0] if name != "Type"}
    sizes = [len(tree["Type"]) for tree in trees]
    types = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
    rows = np.zeros(sum(sizes), types + [(name, "f4") for name in names.values()])
    rows["event"], rows["weight"], rows["label"] = np.arange(len(rows)), 1, np.repeat([0, 1], sizes)
    for old, new in names.items():
        rows[new] = np.concatenate([tree[old] for tree in trees])
    path = directory / "higgs.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("events", data=rows)
        describe_events(file, list(names.values()), {})
    return [path]


@dataclass(frozen=True)
class Result:
    """What the trainings of one model gave."""

    name: str
    scores: list[NDArray[np.float32]]  # of each seed, class probabilities (N, classes) of all events
    seconds: float  # processor time of the training that took least
    search: float  # processor time of all trials; 0 without a search
    size: str  # what is to be said of it


@dataclass(frozen=True)
class Contest:
    """Events, and what all models have in common."""

    files: list[Path]
    table: Table
    judge: BoundDiscriminant
    common: Mapping[str, Any]  # settings of `train`
    trials: int
    seeds: int
    directory: Path

    @classmethod
    def of(cls, files: list[Path], common: Mapping[str, Any], trials: int, seeds: int, directory: Path) -> Contest:
        """Read the events."""
        table, survey = TrainingFiles.open(files, Train()).sample(Train.memory, FOLDS)
        judge = describe(table, survey, files, Train(), torch.device("cpu")).discriminant
        return cls(files, table, judge, common, trials, seeds, directory)

    def reads(self, model: str) -> bool:
        """Whether a model can read such events."""
        try:
            make_network(model, {}, self.table.shape)
        except ConfigError:
            return False
        return True

    def peers(self, trees: Sequence[Trees], weaver: Sequence[str], is_tuned: bool) -> Iterator[Result]:
        """What peers give, one after the other; weaver's networks are not tuned."""
        yield from (self.trees(it, is_tuned) for it in trees)
        yield from (self.network(it, False) for it in weaver if self.reads(it) and not is_tuned)

    def network(self, model: str, is_tuned: bool) -> Result:
        """A model of NanoML's or of a file, with its own settings or after a search."""
        name, place = model.rpartition(":")[2] + " tuned" * is_tuned, self.directory / "analysis.yaml"
        section = {"model": model, "files": [str(it) for it in self.files], "device": "cpu", "workers": 1}
        if "schedule" not in getattr(model_class(model), "unused", ()):  # a round of trees is no epoch
            section |= self.common
        place.write_text(yaml.safe_dump({"train": section, "tune": {"trials": self.trials or 1}}))
        config, start = load(place), time.process_time()
        assert config.train is not None
        settings = self._searched(config, config.train, name) if is_tuned else config.train
        search, scores, seconds, epochs = (time.process_time() - start) * is_tuned, [], [], []
        for seed in range(1, self.seeds + 1):
            run, begin = self.directory / name / str(seed), time.process_time()
            train(self.files, replace(settings, seed=seed), run)
            seconds.append(time.process_time() - begin)
            training = Training.load(run)
            scores.append(training.out_of_fold(self.table)[1])
            epochs += [len(history) for history in training.histories]
        count = sum(it.numel() for it in training.networks[0].parameters())
        size = f"; {count:,} parameters, {np.mean(epochs):.0f} epochs" if count else ""
        return Result(name, scores, min(seconds), search, size)

    def _searched(self, config: Config, settings: Train, name: str) -> Train:
        """The best settings of a search, as `nanoml tune` does it with one worker."""
        assert config.tune is not None
        space = Space.of(config, settings)
        data = TrialData.read(self.files, space)
        study = Study.open(self.directory / name / "tuning", space, config.tune, data.table.sha256())
        work(data, study, self.trials, None, lambda note: None)
        best = study.best()
        assert best is not None
        return space.apply(best.params)

    def trees(self, trees: Trees, is_tuned: bool) -> Result:
        """Decision trees, with their first settings or after a search."""
        start = time.process_time()
        settings = trees.tuned(self.table, FOLDS, self.trials) if is_tuned else trees.first
        search, scores, seconds = (time.process_time() - start) * is_tuned, [], []
        for seed in range(1, self.seeds + 1):
            begin = time.process_time()
            scores.append(trees.scores(self.table, FOLDS, settings, seed))
            seconds.append(time.process_time() - begin)
        return Result(trees.package + " tuned" * is_tuned, scores, min(seconds), search, "")

    def tell(self, result: Result, peers: Sequence[Result]) -> None:
        """Print a result, with its differences to those of peers."""
        areas, error = (
            self._areas(result),
            self.judge.area(result.scores[0], self.table.labels, self.table.weights).error,
        )
        search = f", search {result.search:.0f} s" if result.search else ""
        spread = f", seeds {_spread(areas):.4f}" if self.seeds > 1 else ""
        sys.stdout.write(
            f"  {result.name:25s} AUC {areas.mean():.4f} +- {error:.4f}{spread}; {result.seconds:.1f} s{search}{result.size}\n"
        )
        for peer in peers:
            sys.stdout.write(f"    {self._difference(result, peer)} to {peer.name}\n")
        sys.stdout.flush()

    def _areas(self, result: Result) -> NDArray[np.float64]:
        """The AUC of each seed."""
        found = [self.judge.area(scores, self.table.labels, self.table.weights) for scores in result.scores]
        return np.array([each.value for each in found], np.float64)

    def _difference(self, mine: Result, other: Result) -> str:
        events = self.table.labels, self.table.weights
        paired = self.judge.area_difference(mine.scores[0], other.scores[0], *events).error or 0.0
        areas = self._areas(mine), self._areas(other)
        error = np.sqrt(paired**2 + sum(_spread(each) ** 2 / len(each) for each in areas))
        return f"{areas[0].mean() - areas[1].mean():+.4f} +- {error:.4f}"


def _spread(areas: NDArray[np.float64]) -> float:
    return float(areas.std(ddof=1)) if len(areas) > 1 else 0.0


def given() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--on", nargs="+", choices=[*EXAMPLES, "higgs"], default=list(EXAMPLES))
    options.add_argument("--models", nargs="*", default=list(MODELS), help="ours, as far as they can read the events")
    options.add_argument("--trials", type=int, default=0)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--epochs", type=int)
    options.add_argument("--higgs", type=Path, default=_wheel_of_root())
    options.add_argument("--weaver", type=Path)
    return options.parse_args()


def _wheel_of_root() -> Path | None:
    found = importlib.util.find_spec("ROOT")
    return Path(found.origin).parent / HIGGS if found and found.origin else None


def main() -> None:
    """Train all models on all events, and print what they give."""
    arguments = given()
    silence()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    present = [it for it in TREES if importlib.util.find_spec(it.package)]
    weaver = WEAVER if arguments.weaver else []
    missing = [it.package for it in TREES if it not in present] + ["weaver-core"] * (not weaver)
    sys.stdout.write(f"Peers that are missing: {', '.join(missing) or 'none'}.\n")
    sys.path += [str(arguments.weaver)] * len(weaver)
    epochs, common = arguments.epochs, {}
    if epochs:
        common = {"epochs": epochs, "patience": epochs, "schedule": "cosine"}
    for name in arguments.on:
        with tempfile.TemporaryDirectory() as made:
            if name == "higgs" and arguments.higgs is None:
                raise SystemExit("HIGGS: name the file, --higgs Higgs_data.root, or install the wheel `root`.")
            files = make_example(name, Path(made)) if name in EXAMPLES else make_higgs(arguments.higgs, Path(made))
            contest = Contest.of(files, common, arguments.trials, arguments.seeds, Path(made))
            train(files, Train(epochs=1, workers=1), Path(made) / "first")  # so that imports do not count
            models = [it for it in arguments.models if contest.reads(it)]
            sys.stdout.write(f"{name}, {len(contest.table)} events\n")
            peers: list[Result] = []
            for is_tuned in (False, True) if arguments.trials else (False,):
                for result in contest.peers(present, weaver, is_tuned):
                    contest.tell(result, peers)
                    peers.append(result)
                for model in models:
                    contest.tell(contest.network(model, is_tuned), peers)


if __name__ == "__main__":
    main()
