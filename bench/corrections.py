"""Skims with weights, with corrected jets, and with shifts of these, against the same selection without.

    python bench/corrections.py [--events 200000]

The input has 720 branches. The selection is the trilepton one; the corrections are the invented ones of the example, in the
form of those of CMS's object groups. The weights have ten variations. Each side is a process of its own,
and they take turns; what is compared is processor time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import CHECKOUT, KEEP, SELECTION, Took, in_turns, make_input, parser

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.selection import DatasetInfo
from MLTools.NanoML.terminal.progress import silence

SIDES = {
    "trilepton": SELECTION,
    "with four weights, three of them after the cuts": "corrected_selections.py:Weighted",
    "with four weights of all events": "corrected_selections.py:WeightedBefore",
    "with corrected jets, used after all cuts": "corrected_selections.py:CorrectedJets",
    "with a cut on corrected jets before all others": "corrected_selections.py:JetsFirst",
    "with forty shifts of jets, used after all cuts": "corrected_selections.py:Shifted",
    "with forty shifts, and a cut on jets before all others": "corrected_selections.py:ShiftedFirst",
}


def skim(selection: str, source: Path, output: Path) -> int:
    """Skim the input by a selection; return how many events were kept."""
    info = DatasetInfo("WZ", "2018", corrections_file=str(CHECKOUT / "examples" / "corrections" / "2018.yaml"))
    job = SkimJob(str(source), output, selection, str(CHECKOUT / "bench"), KEEP, dataset=info)
    return skim_file(job).selected


def main() -> None:
    """Make the input, run the sides, print the ratios."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=200_000)
    given = options.parse_args()
    if given.only:
        silence()
        selection, source, output = given.only
        Took.by(lambda: skim(selection, Path(source), Path(output))).tell()
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "input.root")
        make_input(source, given.events)
        sides = {name: (selection, source, Path(folder, "out.root")) for name, selection in SIDES.items()}
        found = in_turns(__file__, sides, turns=3)
    plain = found["trilepton"]
    for name, took in found.items():
        sys.stdout.write(
            f"{name:55} {took.processor:6.2f} s of the processor, {took.processor / plain.processor:5.2f} times, "
            f"{took.memory:4.0f} MB, {took.result:,.0f} events kept\n"
        )


if __name__ == "__main__":
    main()
