"""How often the report on a training warns without a reason.

    python bench/verdicts.py [--situations 200]

Each situation is a small made-up analysis without a fault: 2 to 4 classes, 1 to 10 inputs, 2,000 to 5,000 events, with missing values,
reduced precision, weights that vary and negative weights in some of them. A network (16-16) is trained in three folds, and the report is
written, without figures, with another sample of the same distribution as `evaluate.compare`. Counted are the red and the orange answers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import CHECKOUT, parser

from ML_processing.evaluation.content import all_sections
from MLTools.NanoML.terminal.progress import silence

sys.path.insert(0, str(CHECKOUT / "test"))
from services.situations import Analysis, trained, verdict


def without_figures() -> None:
    """They take longer than all else, and answer nothing."""
    for kind in all_sections():
        setattr(kind, "draw", lambda self, style: None)  # noqa: B010  a method, to mypy


def sound(number: int) -> tuple[Analysis, int]:
    """A situation without a fault, and its number of events: everything varies that may vary."""
    random = np.random.default_rng([7, number])
    few_and_discrete = number % 10 == 0
    analysis = Analysis(
        classes=int(random.integers(2, 5)),
        gaussian=0 if few_and_discrete else int(random.integers(1, 6)),
        exponential=0 if few_and_discrete else int(random.integers(0, 4)),
        counts=3 if few_and_discrete else int(random.integers(0, 3)),
        bits=int(random.choice([23, 10])),
        missing=float(random.choice([0, 0.2])),
        negative=float(random.choice([0, 0, 0.05, 0.2])),
        spread=float(random.choice([0, 0, 0.5])),
        seed=number,
    )
    return analysis, int(random.choice([2000, 3000, 4000, 5000]))


def main() -> None:
    """Print what is not fine in each situation, then how many there are."""
    options = parser((__doc__ or "").partition("\n")[0])
    options.add_argument("--situations", type=int, default=200)
    options.add_argument("--first", type=int, default=0)
    arguments = options.parse_args()
    silence()
    without_figures()
    states: Counter[str] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    for number in range(arguments.first, arguments.first + arguments.situations):
        analysis, count = sound(number)
        with tempfile.TemporaryDirectory() as directory:
            begin = time.perf_counter()
            run, file = trained(Path(directory), analysis.sample(count, 1), seed=number)
            other = analysis.sample(count, 2).write(Path(directory, "other.h5"))
            answers = verdict(run, file, compare=[other])
        found: dict[str, Any] = {question: it for question, it in answers.items() if it["state"] in ("look", "bad")}
        worst = max((it["state"] for it in answers.values()), key=["open", "good", "look", "bad"].index)
        states[worst] += 1
        asked.update((it["state"], question) for question, it in found.items())
        sys.stdout.write(f"{number} ({count:,} events, {time.perf_counter() - begin:.0f} s): {worst} {analysis}\n")
        for question, it in found.items():
            sys.stdout.write(f"    {it['state']}: {question} {it['text']}\n")
        sys.stdout.flush()
    for (state, question), times in sorted(asked.items()):
        sys.stdout.write(f"{times:4} {state} {question}\n")
    sys.stdout.write(f"{arguments.situations} situations without a fault: {dict(states)}\n")


if __name__ == "__main__":
    main()
