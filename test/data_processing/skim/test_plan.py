from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.skim.plan import BranchRule, Filter, FilterSet, SkimJob, apply_rules, parse_rule, read_rules
from data_processing.skim.stage import skim_summary
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import BY_EVENTS, Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, Step, WeightSums
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile

NAMES = ["run", "nMuon", "Muon_pt", "Muon_eta", "nJet", "Jet_pt", "MET_pt", "MET_phi", "HLT_Mu50", "HLT_IsoMu24"]
EVENTS = {"run": Branch("run", "uint32", "flat", "run number", None, "")}
SELECTION = """
from MLTools.NanoML.selection import Column, Selection

class HighMet(Selection):
    branches = ("MET_pt", "Muon_pt")
    optional = {"HLT_IsoMu24": True, "HLT_NeverWas": False}
    columns = {"met": Column("f4", "missing momentum [GeV]")}

    def select(self, events, cutflow):
        events = cutflow.cut("met", events.MET.pt > 40, events)
        return events, {"met": events.MET.pt}
"""


@pytest.mark.parametrize(
    ("text", "rule", "is_name"),
    [
        ("keep Muon_*", BranchRule(True, "Muon_*"), False),
        ("drop HLT_Mu50", BranchRule(False, "HLT_Mu50"), True),
        ("keepmatch (Muon|Jet)_pt", BranchRule(True, "(Muon|Jet)_pt", is_regex=True), False),
        ("dropmatch  HLT_A", BranchRule(False, "HLT_A", is_regex=True), False),
        ("  MET_p[tx] ", BranchRule(True, "MET_p[tx]"), False),
    ],
)
def test_a_rule_in_words(text: str, rule: BranchRule, is_name: bool) -> None:
    assert parse_rule(text, "here") == rule
    assert rule.is_name is is_name


def test_what_is_no_rule_is_told_with_its_place() -> None:
    for text in ("", "keep", "keep a b", "remove HLT_*", "Muon_pt Jet_pt", "keep: Muon_*"):
        message = f"skim.keep: `{text}`: write keep, drop, keepmatch or dropmatch"
        with pytest.raises(ConfigError, match=re.escape(message)):
            parse_rule(text, "skim.keep")
    with pytest.raises(ConfigError, match=r"skim.keep: `keepmatch \(Muon`: not a regular expression: "):
        parse_rule("keepmatch (Muon", "skim.keep")


@pytest.mark.parametrize(
    ("rules", "start", "kept"),
    [
        (["drop HLT_*", "keep HLT_Mu50"], ["HLT_Mu50", "HLT_IsoMu24", "run"], ["run", "HLT_Mu50"]),
        (["keepmatch Muon"], [], []),  # the whole name must match
        (["keep muon_*"], [], []),
        (["keep absent"], ["run"], ["run"]),
        (["keep Jet_pt", "keep Jet_pt", "keep nJet"], [], ["nJet", "Jet_pt"]),  # in the order of the file
    ],
)
def test_each_rule_goes_over_those_before_it(rules: list[str], start: list[str], kept: list[str]) -> None:
    assert apply_rules([parse_rule(rule, "here") for rule in rules], NAMES, start) == kept


pieces = st.sampled_from(["Muon", "Jet", "MET", "HLT", "_", "pt", "eta", "*", "?", "n"])
made_rules = st.lists(st.tuples(st.booleans(), st.lists(pieces, min_size=1, max_size=4).map("".join)), max_size=6)


@given(made_rules, st.sets(st.sampled_from(NAMES)))
def test_it_is_the_last_rule_that_matches(made: list[tuple[bool, str]], start: set[str]) -> None:
    def expected(name: str) -> bool:
        decisions = [keep for keep, pattern in made if fnmatch.fnmatchcase(name, pattern)]
        return decisions[-1] if decisions else name in start

    globs = [BranchRule(keep, pattern) for keep, pattern in made]
    regexes = [BranchRule(keep, fnmatch.translate(pattern), is_regex=True) for keep, pattern in made]
    for rules in (globs, regexes):
        assert apply_rules(rules, NAMES, start) == [name for name in NAMES if expected(name)]


def test_a_file_of_rules(tmp_path: Path) -> None:
    path = tmp_path / "keep_and_drop.txt"
    path.write_text(
        "# what is kept\n\ndrop *\n   keep  Muon_*   # with spaces\nkeep \\\n  Jet_pt\n#keep run\n\tdropmatch Muon_(eta|phi)\n"
    )
    rules = read_rules(path)
    globs = [BranchRule(False, "*"), BranchRule(True, "Muon_*"), BranchRule(True, "Jet_pt")]
    assert rules == [*globs, BranchRule(False, "Muon_(eta|phi)", is_regex=True)]
    assert apply_rules(rules, NAMES, NAMES) == ["Muon_pt", "Jet_pt"]
    # rules go on in the next line, and comments do not
    path.write_text("# all of C:\\\ndrop *\nkeep \\\n  Muon_* # mine \\\nkeep Muon pt\n")
    with pytest.raises(ConfigError, match=r"keep_and_drop.txt:5: `keep Muon pt`"):
        read_rules(path)


@pytest.mark.parametrize("content", [None, b"keep \xff\xfe"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rules.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"rules.txt: cannot be read as a branch selection file"):
        read_rules(path)


def test_names_that_changed_between_versions_match(made_files: dict[str, Path]) -> None:
    with RootFile(made_files["made_v15_mc"]) as file:
        kept = apply_rules([parse_rule("MET_*", "here")], file.branches)
        left = apply_rules([parse_rule("drop MET_pt*", "here")], file.branches, kept)
    assert {"PFMET_pt", "PFMET_phi"} <= set(kept)
    assert all(each.startswith("PFMET_") for each in kept)
    assert "PFMET_pt" not in left
    assert "PFMET_phi" in left


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with a selection and a luminosity JSON."""
    (tmp_path / "selection.py").write_text(SELECTION)
    (tmp_path / "golden.json").write_text(json.dumps({"1": [[13001, 13002]], "315267": [[200, 210]]}))
    return tmp_path


@pytest.fixture
def file(sample: Path) -> Iterator[RootFile]:
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        yield file


def opened(base: Path, file: RootFile, is_data: bool = False, **settings: Any) -> list[Filter]:
    job = SkimJob(file.path, base / "out.root", base=str(base), **settings)
    return FilterSet.of(job).open(file, is_data, set())


def test_they_come_in_the_order_of_their_cost(base: Path, file: RootFile) -> None:
    everything: dict[str, Any] = {"certified": "golden.json", "cut": "nMuon >= 1", "selection": "selection.py:HighMet"}
    data = opened(base, file, is_data=True, **everything)
    assert [list(step.branches)[:2] for step in data] == [
        ["run", "luminosityBlock"], ["nMuon"], ["MET_pt", "Muon_pt"]
    ]  # fmt: skip
    assert [list(step.made) for step in data] == [[], [], ["met"]]
    assert [dict(step.defaults) for step in data] == [{}, {}, {"HLT_NeverWas": False}]
    # simulation has no certified sections
    assert len(opened(base, file, is_data=False, **everything)) == 2
    assert opened(base, file) == []


def test_a_cut_finds_branches_under_the_name_that_the_file_has(base: Path, made_files: dict[str, Path]) -> None:
    with RootFile(made_files["made_v15_mc"]) as file:
        (step,) = opened(base, file, cut="MET_pt > 60 || MET_phi > 3")
        assert list(step.branches) == ["PFMET_pt", "PFMET_phi"]
        arrays = file.read(step.branches)
        expected = (np.asarray(arrays["PFMET_pt"]) > 60) | (np.asarray(arrays["PFMET_phi"]) > 3)
        assert step.apply(arrays, np.ones(file.entries)).rows.tolist() == np.flatnonzero(expected).tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"certified": "absent.json"}, "absent.json: cannot be read"),
        ({"certified": "selection.py"}, "selection.py: cannot be understood"),
        ({"cut": "nMuon >="}, 'cut "nMuon >=": column 9: unexpected end'),
        ({"selection": "selection.py:Absent"}, "Absent"),
    ],
)
def test_mistakes_are_told_before_a_file_is_read(base: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        FilterSet.of(SkimJob("absent.root", base / "out.root", base=str(base), **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cut": "nMuons > 1"}, r'WZTo3LNu_0.root has no branch nMuons. Did you mean "nMuon"'),
        ({"selection": "selection.py:HighMet"}, "selection HighMet reads branches that this file lacks"),
    ],
)
def test_what_a_file_lacks_is_told(base: Path, file: RootFile, settings: dict[str, Any], message: str) -> None:
    (base / "selection.py").write_text(SELECTION.replace("MET_pt", "MTE_pt"))
    with pytest.raises(NanoMLError, match=message):
        opened(base, file, **settings)


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
        done = {}
        for number, is_data in enumerate(kinds):
            accounting = Accounting([FileAccounting("0.root", 2000, 0, 9.0, RUNS, is_data, steps)])
            done[f"{'Data' if is_data else 'WZ'}/{number}"] = accounting.to_json()
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
