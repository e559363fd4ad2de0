"""What a training on the result of the fit gains, where the best possible result is known.

    python bench/result.py [--model mlp] [--events 40000] [--repeat 10] [--shift 0.3] [--figure FILE.png] [--inferno]

The events are made up (test/services/shiftedbackground.py): a Gaussian signal over two backgrounds in two features, one of which lies
nearer to the signal by `--shift` at +1 sigma of a nuisance parameter. A network (2-32-32-3) is trained on the cross entropy of the
classes, and then on the expected uncertainty of the signal strength. Both are judged by a fit to the score in 15 even bins whose templates
are integrals, not sums of events. The best possible uncertainty is that of a fit to the features themselves. Every repetition has other
events and another seed. With `--inferno` the events are those of the synthetic example of arXiv:1806.04743, in 10 even bins.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Union

import numpy as np
import torch
from common import CHECKOUT, parser

sys.path += [str(CHECKOUT), str(CHECKOUT / "test")]  # the first, since folders of tests have the names of packages

from inferno import Inferno

from ML_processing.training.directory import Training
from ML_processing.training.result_training import before_file, read_fold
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.terminal.progress import silence
from services.shiftedbackground import ShiftedBackground

MODELS = {
    "mlp": Train("mlp", options={"hidden": [32, 32], "dropout": 0.0}, learning_rate=5e-3, epochs=40, patience=8),
    "tabular": Train("tabular", epochs=40, patience=8),
}


Toy = Union[ShiftedBackground, Inferno]


def one(toy: Toy, settings: Train, events: int, seed: int) -> tuple[float, float, list[float]]:
    """The uncertainties before and after, and how long each training took."""
    with tempfile.TemporaryDirectory() as directory:
        path, run = Path(directory) / "events.h5", Path(directory) / "run"
        target = toy.write(path, events, seed)
        train([path], replace(settings, seed=seed + 1, target=target, folds=1, device="cpu", objective="result"), run)
        (network,) = Training.load(run).networks
        after, seconds = toy.of_network(network), read_fold(run, 0).seconds
        network.load_state_dict(torch.load(before_file(run, 0), weights_only=True)["network"])
        return toy.of_network(network), after, seconds


def draw(path: Path, best: float, before: np.ndarray, after: np.ndarray) -> None:
    """The uncertainties of all repetitions beside the best possible one."""
    from MLTools.NanoML.report.figures import in_style, line, single
    from MLTools.NanoML.report.section import Style

    @in_style
    def figure(style):  # type: ignore[no-untyped-def]
        found, axes = single(style, f"{len(before)} trainings")
        number = np.arange(1, len(before) + 1)
        axes.plot(number, before, "o", color=line(0, 2)["color"], label="Cross entropy")
        axes.plot(number, after, "s", color=line(1, 2)["color"], label="Cross entropy, then the result")
        axes.axhline(best, color="black", ls="--", label="Best possible")
        axes.set_xlabel("Training")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel("Expected uncertainty")
        axes.set_ylim(0.95 * best, 1.2 * before.max())
        axes.legend()
        return found

    figure(Style("Made-up events")).savefig(path, dpi=60)


def main() -> None:
    """Print the uncertainties, and which part of the difference is gained."""
    options = parser((__doc__ or "").partition("\n")[0])
    options.add_argument("--model", choices=MODELS, default="mlp")
    options.add_argument("--events", type=int, default=40_000, help="of each class")
    options.add_argument("--repeat", type=int, default=10)
    options.add_argument("--shift", type=float, default=0.3)
    options.add_argument("--figure", type=Path)
    options.add_argument("--inferno", action="store_true", help="the example of arXiv:1806.04743")
    arguments = options.parse_args()
    silence()
    toy: Toy = Inferno() if arguments.inferno else ShiftedBackground(arguments.shift)
    found = []
    best = toy.best()
    for seed in range(arguments.repeat):
        before, after, seconds = one(toy, MODELS[arguments.model], arguments.events, seed)
        found.append((before, after, *seconds))
        sys.stdout.write(f"{before:.4f} -> {after:.4f}, {seconds[0]:.0f} + {seconds[1]:.0f} s\n")
        sys.stdout.flush()
    before, after, first, second = np.array(found).T
    gained, change = (before - after) / (before - best), after / before - 1
    for text, values in (("gained of what is possible", 100 * gained), ("change", 100 * change)):
        error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
        sys.stdout.write(f"{text}: {values.mean():.2f} ± {error:.2f} %\n")
    time = 1 + second.sum() / first.sum()
    sys.stdout.write(f"best possible: {best:.4f}; time: {time:.2f} of the training on cross entropy\n")
    if arguments.figure:
        draw(arguments.figure, best, before, after)


if __name__ == "__main__":
    main()
