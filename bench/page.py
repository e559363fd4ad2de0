"""Measures how fast NanoML is, and writes what was found into the manual's page "How fast is it": make bench.

    python bench/page.py [--only skim score]

Each benchmark appends its cases to one file, bench/figures.jsonl; the page's table and its chart are made from these alone. It
takes forty minutes, in which nothing else should run on the machine, and 20 GB of disk. With --only, the cases of other benchmarks
stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import CHECKOUT, TURNS, Case, Took, parser

FIGURES, DOC = CHECKOUT / "bench" / "figures.jsonl", CHECKOUT / "doc"
sys.path.append(str(DOC))

from drawing import Picture  # noqa: E402

BENCHES: dict[str, Sequence[str]] = {
    "skim": ("--events", "400000", "--comparison", "1", "--comparison", "2"),
    "files": (),
    "rntuple": ("--events", "400000"),
    "xrootd": (),
    "score": ("--model", "mlp"),
    "convert": (),
    "shuffle": (),
    "train": (),
}
"""What each is run with."""

BEGIN, END = "<!-- measured: make bench writes what follows -->", "<!-- end of what was measured -->"
ROW, LEFT, RIGHT = 52, 12, 428
MOST = 2.0  # times the limit, at the right edge of the chart


@dataclass(frozen=True)
class Line(Case):
    """A line of the table and of the chart."""

    @classmethod
    def of(cls, text: str) -> Line:
        """From what `Case.tell` wrote."""
        content = json.loads(text)
        return cls(sides={side: Took(**took) for side, took in content.pop("sides").items()}, **content)

    @property
    def ratio(self) -> float:
        """Our rate over the limit's, by the turns that took least."""
        return self.rate(self.ours) / self.rate(self.limit)

    @property
    def median(self) -> float:
        """The same by the medians of the turns."""
        ours, limit = (self.amount_of(side) / self.sides[side].median for side in (self.ours, self.limit))
        return ours / limit

    @property
    def peers(self) -> dict[str, float]:
        """How many times as fast as others NanoML is."""
        ours = self.rate(self.ours)
        others = [side for side in self.sides if side not in (self.ours, self.limit)]
        return {side: ours / self.rate(side) for side in others}

    def row(self) -> str:
        """That of the table."""
        ours = self.sides[self.ours]
        peers = "<br>".join(f"{side}: {ratio:.2g}" for side, ratio in self.peers.items())
        cells = (
            f"{self.name}<br>{self.setting}",
            f"{si(self.rate(self.ours))}{self.unit}/s",
            f"{ours.memory:.0f} MB",
            f"**{self.ratio:.2f}** ({self.median:.2f})",
            self.limit,
            peers or "none",
        )
        return f"| {' | '.join(cells)} |"


def si(number: float) -> str:
    """Three digits and a prefix, such as "1.21 M"."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix} "
    return f"{number:.3g} "


def chart(lines: Sequence[Line]) -> Picture:
    """A bar for each case, with the limit; a thin line is another program. What is faster than twice the limit ends at the edge."""
    it = Picture(ROW * len(lines) + 10)

    def at(ratio: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(ratio, MOST) / MOST

    for number, line in enumerate(lines):
        top = 6 + ROW * number
        it.words(LEFT, top + 14, line.name, "t left")
        it.words(RIGHT - 16, top + 14, f"{line.ratio:.2f}")
        it.box(LEFT, top + 21, at(line.ratio) - LEFT, 16, kind="ours", corner=2)
        for ratio in line.peers.values():
            it.mark(at(line.ratio / ratio), top + 18, top + 40, "blue")
        it.mark(at(1), top + 18, top + 40, "red")
    return it


def machine() -> str:
    """A sentence on where it was measured."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    names = ("uproot", "awkward", "onnxruntime", "torch")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    processor = found[1].strip() if found else platform.machine()
    return f"Measured with Python {platform.python_version()}, {versions}, on {os.cpu_count()} cores of {processor}."


def table(lines: Sequence[Line]) -> Iterator[str]:
    """The lines of the part of the page that is measured."""
    yield BEGIN
    yield f"{machine()} Each side has run {TURNS} times, in turns; the best turns are compared, and in brackets the medians."
    yield ""
    yield "| what | rate | memory | of the limit | the limit | NanoML's rate over that of others |"
    yield "|---|---|---|---|---|---|"
    yield from (line.row() for line in lines)
    yield END


def measure(names: Sequence[str]) -> list[Line]:
    """Run benchmarks, each in a process of its own, and take what they found, and of others what was found before."""
    with tempfile.TemporaryDirectory() as directory:
        figures = Path(directory, "figures.jsonl")
        figures.touch()
        for name in names:
            line = [sys.executable, str(CHECKOUT / "bench" / f"{name}.py"), *BENCHES[name]]
            subprocess.run(line, check=True, env={**os.environ, "NANOML_FIGURES": str(figures)})
        before = FIGURES.read_text() if FIGURES.is_file() and names != list(BENCHES) else ""
        found = {json.loads(line)["name"]: line for line in (before + figures.read_text()).splitlines()}
    FIGURES.write_text("".join(f"{line}\n" for line in found.values()))
    return [Line.of(line) for line in found.values()]


def main() -> None:
    """Measure, and write the page and its chart."""
    options = parser(__doc__).parse_args()
    lines = measure(options.only or list(BENCHES))
    page = DOC / "speed.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + "\n".join(table(lines)) + rest.partition(END)[2])
    (DOC / "images" / "speed.svg").write_text(chart(lines).svg())
    sys.stdout.write(f"Written: {page} and doc/images/speed.svg. `make doc` shows them.\n")


if __name__ == "__main__":
    main()
