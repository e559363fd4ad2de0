"""Histograms of events with scores, against reading the same branches.

    python bench/histogram.py [--events 2000000] [--times 1] [--compression ZLIB:5]

The input is a file of scores with weights under ten variations and two regions, and the events that it is a friend of. Two quantities are
filled in two regions under each variation. More events are the same file several times, as several files. Peers: reading the same branches
with NanoML, and with uproot; and boost-histogram, if it is there, which fills one histogram for each weight from arrays in memory. Each
side is a process of its own that has done it once before.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import uproot
from common import Took, in_turns, parser, read_with_uproot

from data_processing.convert.expressions import Expression
from data_processing.histograms.fill import Axis, FillJob, Plan, Process, fill_file
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import silence

SOURCES = [f"source{number}" for number in range(5)]
WEIGHTS = ["eventWeight", *(f"eventWeight_{source}{way}" for source in SOURCES for way in ("Up", "Down"))]
REGIONS = ("SR", "CR")
SCORES, EVENTS = "scores.root", "events.root"
NAMES = {SCORES: [*WEIGHTS, *(f"in_{region}" for region in REGIONS), "model_signal"], EVENTS: ["mass"]}
PLANS = (
    Plan("score", (Axis(Expression("signal", ""), tuple(np.linspace(0, 1, 1001))),), REGIONS),
    Plan("mass", (Axis(Expression("mass", ""), tuple(np.linspace(60, 120, 41))),), REGIONS),
)


def make(directory: Path, events: int, compression: str) -> None:
    """The two files."""
    identifiers = {"run": "uint32", "luminosityBlock": "uint32", "event": "uint64"}
    for file, names in NAMES.items():
        kinds = {**identifiers, **{name: "bool" if name.startswith("in_") else "float32" for name in names}}
        branches = {name: Branch(name, kind, "flat", "", None, "") for name, kind in kinds.items()}
        random = np.random.default_rng(1)
        with NanoWriter(directory / file, branches, compression) as writer:
            for start in range(0, events, 100_000):
                count = min(100_000, events - start)
                values = {name: random.uniform(0, 1, count).astype(np.float32) for name in names}
                rows = {name: each < 0.4 if name.startswith("in_") else each for name, each in values.items()}
                if "mass" in rows:
                    rows["mass"] = (60 + 60 * rows["mass"]).astype(np.float32)
                ids = {
                    "run": np.ones(count),
                    "luminosityBlock": np.ones(count),
                    "event": np.arange(start, start + count),
                }
                writer.events.extend({**{name: each.astype(kinds[name]) for name, each in ids.items()}, **rows})
            writer.finish()


def fill(directory: Path) -> int:
    """NanoML fills."""
    files = (str(directory / name) for name in (SCORES, EVENTS))
    return fill_file(FillJob(*files, directory / "out.h5", PLANS, [Process("WZ")], "model"))["events"]


def read(directory: Path) -> int:
    """NanoML reads, as much at once as it fills."""
    for name, names in NAMES.items():
        with RootFile(directory / name) as file:
            for start, stop in file.ranges(names, 500_000):
                file.read(names, start, stop)
    return 0


def read_by_uproot(directory: Path) -> int:
    """Uproot reads."""
    for name, names in NAMES.items():
        read_with_uproot(directory / name, names, 500_000)
    return 0


def fill_by_boost(directory: Path) -> int:
    """Uproot reads, and boost-histogram fills."""
    import boost_histogram as bh

    axes = {"model_signal": bh.axis.Regular(1000, 0, 1), "mass": bh.axis.Regular(40, 60, 120)}
    made = {
        key: bh.Histogram(axes[key[0]], storage=bh.storage.Weight())
        for key in ((name, region, weight) for name in axes for region in REGIONS for weight in WEIGHTS)
    }
    trees = {name: uproot.open(directory / name)["Events"] for name in NAMES}
    count = trees[SCORES].num_entries
    for start in range(0, count, 500_000):
        arrays = {}
        for name, names in NAMES.items():
            arrays.update(
                trees[name].arrays(names, entry_start=start, entry_stop=start + 500_000, library="np", how=dict)
            )
        for (name, region, weight), histogram in made.items():
            inside = arrays[f"in_{region}"]
            histogram.fill(arrays[name][inside], weight=arrays[weight][inside])
    return count


SIDES = {"fill": fill, "read": read, "uproot": read_by_uproot, "boost": fill_by_boost}
PEERS = {"read": "NanoML just reads", "uproot": "uproot just reads", "boost": "uproot reads and boost-histogram fills"}


def main() -> None:
    """Make the input, and measure."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=2_000_000)
    options.add_argument("--times", type=int, default=1)
    options.add_argument("--compression", default="ZLIB:5")
    given = options.parse_args()
    if given.only:
        silence()
        side, directory, times = given.only[0], Path(given.only[1]), int(given.only[2])
        SIDES[side](directory)
        Took.by(lambda: sum(SIDES[side](directory) for _ in range(times))).tell()
        return
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary), given.events, given.compression)
        sides = [name for name in SIDES if name != "boost" or importlib.util.find_spec("boost_histogram")]
        took = in_turns(__file__, {name: [name, temporary, given.times] for name in sides})
    ours, events = took["fill"], given.events * given.times
    sys.stdout.write(f"fill {events:,}: {events / ours.processor / 1e6:.1f} M events/s, {ours.memory:.0f} MB\n")
    for name in sides[1:]:
        ratio = ours.processor / took[name].processor
        sys.stdout.write(f"  {ratio:.2f} times the processor time in which {PEERS[name]}, {took[name].memory:.0f} MB\n")


if __name__ == "__main__":
    main()
