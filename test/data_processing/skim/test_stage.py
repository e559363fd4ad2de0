from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_processing.skim.stage import skim_summary
from MLTools.NanoML.nanoaod.accounting import BY_EVENTS, Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, Step, WeightSums

RUNS = "Runs/genEventSumw"


def summary(*files: tuple[int, float, str], dataset: str = "WZ/") -> str:
    """Of files 0.root and so on, by their events, the weight of each event, and the source of the sum of weights."""
    done = {}
    for number, (events, weight, source) in enumerate(files):
        total = events * weight
        steps = [Step("all", events, total)]
        file = FileAccounting(f"{number}.root", events, events, total, source, False, steps)
        done[f"{dataset}{number}"] = Accounting([file]).to_json()
    return "\n".join(skim_summary({}, done))


@pytest.mark.parametrize(
    ("name", "about"),
    [
        (
            "pileup",
            "The mean of pile-up weights is near 1 over all generated events: is this the profile of the sample?",
        ),
        ("btag", "If it should not, as the shape of b-tagging, its declaration says Weight(..., keeps_yield=True)."),
    ],
)
def test_a_weight_that_changes_all_events_is_told_by_what_it_is(name: str, about: str) -> None:
    file = FileAccounting("0.root", 10, 10, 10.0, RUNS, False, [Step("all", 10, 10.0)])
    file.weights.append(WeightSums(name, "all", False, False, {0: 10.0}, {"nominal": {0: 12.0}}))
    told = skim_summary({}, {"WZ/0": Accounting([file]).to_json()})
    assert told[-1] == f"  WARNING: {name} changes the sum of weights of all events by +20%. {about}"


def test_sums_of_weights_that_may_lack_events_are_told() -> None:
    assert "WARNING" not in summary((200, 2.0, RUNS), (100, 2.0, RUNS))
    assert "  WARNING: 1.root has no tree Runs. The sum" in summary((200, 2.0, RUNS), (100, 2.0, BY_EVENTS))
    assert "0.root has no tree Runs, like 1 more. The sum" in summary((9, 2.0, BY_EVENTS), (9, 2.0, BY_EVENTS))


def test_trigger_bits_that_files_lack_are_told(tmp_path: Path) -> None:
    lacking = ["HLT_A", "HLT_B"], [], ["HLT_A", "HLT_B"], ["HLT_A"]
    done = {
        f"Data/{number}": Accounting([FileAccounting(f"{number}.root", 1, 1, 1.0, RUNS, True, absent=names)]).to_json()
        for number, names in enumerate(lacking)
    }
    (line, other) = [line for line in skim_summary({"Data": tmp_path}, done) if "NOTE" in line]
    assert line.startswith("  NOTE: 0.root has no branch HLT_A, HLT_B, like 1 more. Their defaults were taken")
    assert other.startswith("  NOTE: 3.root has no branch HLT_A. ")


@pytest.mark.parametrize(
    ("files", "dataset", "is_odd"),
    [
        ([(200, -3.0, RUNS), (100, 4500.0, RUNS), (100, 30.0, RUNS)], "WZ/", True),
        ([(200, 3.0, RUNS), (100, 30.0, RUNS)], "WZ/", False),  # a few events of large weight
        ([(200, 3.0, RUNS), (99, 4500.0, RUNS)], "WZ/", False),  # too few to tell
        ([(200, 0.0, RUNS), (100, 4500.0, RUNS)], "WZ/", False),
        ([(200, 3.0, RUNS), (100, 4500.0, RUNS)], "", False),  # of the command line, which need not be of one process
    ],
)
def test_files_of_different_generators_in_a_dataset_are_told(
    files: list[tuple[int, float, str]], dataset: str, is_odd: bool
) -> None:
    told = re.findall("WARNING: (.*?)[.] Files of different", summary(*files, dataset=dataset))
    assert told == (["an event of 1.root weighs 1,500 times as much as one of 0.root"] if is_odd else [])


def test_cut_flows_are_tables_with_the_same_columns(tmp_path: Path) -> None:
    def told(weight: float, *kinds: bool) -> list[str]:
        steps = [Step("all", 2000, 2000 * weight), Step("two muons of opposite charge", 500, 500.0), Step("b", 0, 0.0)]
        done = {
            f"{'Data' if is_data else 'WZ'}/{number}": Accounting(
                [FileAccounting("0.root", 2000, 0, 9.0, RUNS, is_data, steps)]
            ).to_json()
            for number, is_data in enumerate(kinds)
        }
        return skim_summary({"Data": tmp_path}, done)

    (head, *rows) = told(0.5, False)[1:5]
    assert head.split() == ["cut", "events", "of", "all", "of", "previous", "weights"]
    assert [row.split()[-6:] for row in rows] == [
        ["2,000", "100.0", "%", "100.0", "%", "1,000"],
        ["500", "25.0", "%", "25.0", "%", "500"],
        ["0", "0.0", "%", "0.0", "%", "0"],
    ]
    assert {len(line) for line in (head, *rows)} == {len(head)}
    assert all(row.startswith(f"  {cut}  ") for row, cut in zip(rows, ("all", "two muons of opposite charge", "b")))
    assert "weights" not in told(1.0, False)[1]
    both = told(1.0, False, True)
    assert sum(line.startswith("  cut ") for line in both) == 1
    assert "Data: 2,000 events read; how many are kept is blind" in both
