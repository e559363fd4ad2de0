"""Four-vectors of modules of nanoAOD-tools, one at a time: ours, the package vector, and ROOT's where it is installed.

python bench/fourvectors.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import vector

from data_processing.eventloop.lorentzvector import TLorentzVector

NUMBER = 100_000
ONE, TWO = (30.0, 1.1, 0.3, 0.1), (40.0, -1.1, 2.3, 0.1)  # pt, eta, phi, mass


def microseconds(work: Callable[[], Any]) -> float:
    """Processor time of one call, the best of three times NUMBER calls."""
    times = []
    for _ in range(3):
        start = time.process_time()
        for _ in range(NUMBER):
            work()
        times.append(time.process_time() - start)
    return 1e6 * min(times) / NUMBER


def as_in_root(kind: Any) -> dict[str, float]:
    """Times of a class with ROOT's methods."""

    def make(momentum: tuple[float, ...]) -> Any:
        made = kind()
        made.SetPtEtaPhiM(*momentum)
        return made

    a, b = make(ONE), make(TWO)
    works = {"make": lambda: make(ONE), "add": lambda: a + b, "mass": lambda: a.M(), "distance": lambda: a.DeltaR(b)}
    return {name: microseconds(work) for name, work in works.items()}


def in_package() -> dict[str, float]:
    """Times of the package, in the coordinates that are fastest to add."""

    def make(momentum: tuple[float, ...]) -> Any:
        return vector.obj(**dict(zip(("pt", "eta", "phi", "mass"), momentum))).to_xyzt()

    a, b = make(ONE), make(TWO)
    works = {"make": lambda: make(ONE), "add": lambda: a + b, "mass": lambda: a.mass, "distance": lambda: a.deltaR(b)}
    return {name: microseconds(work) for name, work in works.items()}


def main() -> None:
    """Print the times of each library, and their ratios to ours."""
    found = {"ours": as_in_root(TLorentzVector), "vector": in_package()}
    try:
        import ROOT
    except ImportError:
        sys.stdout.write("ROOT is not installed\n")
    else:
        found["ROOT"] = as_in_root(ROOT.TLorentzVector)
    for library, times in found.items():
        for name, each in times.items():
            sys.stdout.write(f"{library:7}{name:9}{each:7.2f} us{each / found['ours'][name]:6.1f} times ours\n")


if __name__ == "__main__":
    main()
