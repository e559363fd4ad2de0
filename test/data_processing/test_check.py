from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from data_processing.check import check
from data_processing.skim.skim import skim_file
from data_processing.skim.stage import skim_job
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from services.opendata import Made2012, write_2012

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

ANALYSIS = """\
datasets:
  WZ:
    files: {sample}/WZTo3LNu/*.root
  ZG:
    files: {sample}/ZGToLLG/*.root
skim:
  selection: MLTools.NanoML.trilepton:Trilepton
  keep: [MET_pt, "Jet_*"]
convert:
  features: [ZCand_mass, MET_pt]
  objects:
    Jet: {{fields: [pt, eta], max: 4}}
"""


def problems(directory: Path, sample: Path, old: str = "", new: str = "") -> list[str]:
    path = directory / "a.yaml"
    path.write_text(ANALYSIS.format(sample=sample).replace(old, new))
    with pytest.raises(ConfigError) as caught:
        check(load(path))
    return str(caught.value).splitlines()


def test_a_configuration_in_order_is_told(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "a.yaml").write_text(ANALYSIS.format(sample=sample))
    lines = check(load(tmp_path / "a.yaml"))
    assert len(lines) == 2
    assert "WZ: 2 files; " in lines[0]
    assert lines[0].endswith("has 800 events")
    first = check(load(tmp_path / "a.yaml"), 100)[0]
    assert re.search(r"has 800 events, and the skim keeps \d\d? of the first 100$", first)


def test_a_skim_that_keeps_none_of_the_first_events_is_told_with_the_cut(tmp_path: Path, sample: Path) -> None:
    text = ANALYSIS.format(sample=sample).replace("skim:\n", 'skim:\n  cut: "nMuon > 99"\n')
    (tmp_path / "a.yaml").write_text(text)
    lines = check(load(tmp_path / "a.yaml"), 50)
    assert lines[0].endswith("keeps 0 of the first 50")
    assert lines[1] == '  WARNING: none of these events is left after "cut".'
    assert len(lines) == 4


def test_the_first_file_must_be_readable(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "no.root").write_text("text")
    (tmp_path / "a.yaml").write_text(ANALYSIS.format(sample=sample).replace(f"{sample}/ZGToLLG/*.root", "no.root"))
    with pytest.raises(UnreadableError, match=r"a.yaml:4: datasets.ZG: .*no.root: is not a ROOT file"):
        check(load(tmp_path / "a.yaml"))


def test_a_feature_that_no_stage_provides_is_found_before_the_work(tmp_path: Path, sample: Path) -> None:
    lines = problems(tmp_path, sample, "ZCand_mass", "ZCand_mas")
    assert len(lines) == 1
    assert 'a.yaml:10: convert.features[0]: "ZCand_mas" is in no skim of dataset WZ (first file: ' in lines[0]
    assert 'Did you mean "ZCand_mass"? The same goes for ZG.' in lines[0]
    (line,) = problems(tmp_path, sample, "[ZCand_mass, MET_pt]", "[ZCand_mass, PV_npvs]")
    assert "The input has it: add PV_npvs to skim.keep." in line
    (line,) = problems(tmp_path, sample, "Jet: {", "Photon: {")
    assert 'The input has it: add "Photon_*" to skim.keep.' in line
    (line,) = problems(tmp_path, sample, "[ZCand_mass, MET_pt]", "[ZCand_mass, Nonsense]")
    assert "must be listed in skim.keep" in line


def test_what_modules_make_may_be_anything(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "jets.py").write_text("raise SystemExit  # a check imports no module, which takes ROOT\n")
    with_module, feature = ("skim:\n", "skim:\n  modules: [jets.py:jetSums]\n"), ("MET_pt]", "MET_pt, jets_sumPt]")
    text = ANALYSIS.format(sample=sample).replace(*with_module).replace(*feature)
    (tmp_path / "a.yaml").write_text(text.replace("Jet: {", "Sum: {"))
    assert [line.partition(":")[0] for line in check(load(tmp_path / "a.yaml"), 50)] == ["WZ", "ZG"]
    assert 'features[2]: "jets_sumPt" is in no skim' in problems(tmp_path, sample, *feature)[0]
    (tmp_path / "jets.py").unlink()
    (line,) = problems(tmp_path, sample, *with_module)
    assert line.endswith(f'module "jets.py:jetSums": {tmp_path / "jets.py"}: no such file.')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[ZCand_mass, MET_pt]", "[event]", "event cannot be a feature"),
        ("[ZCand_mass, MET_pt]", "[Jet_pt]", "Jet_pt is a list of objects in each event"),
        ("fields: [pt, eta]", "fields: [pt, etta]", '"Jet_etta" is in no skim .* Did you mean "Jet_eta"'),
        ("Jet: {", "Jets: {", 'a.yaml:12: convert.objects.Jets: "Jets" is in no skim .* Did you mean "Jet"'),
        ('MET_pt, "Jet', 'MTE_pt, "Jet', r"skim.keep: .*\.root has no branch MTE_pt"),
        ("trilepton:Trilepton", "trilepton:Trilepto", 'a.yaml:6: selection ".*:Trilepto": .* has no class'),
    ],
)
def test_every_kind_of_mistake_is_one_line(tmp_path: Path, sample: Path, old: str, new: str, message: str) -> None:
    lines = problems(tmp_path, sample, old, new)
    assert re.search(message, lines[0]), lines
    assert all(str(tmp_path / "a.yaml") in line for line in lines)


def test_without_a_skim_the_files_themselves_are_checked(tmp_path: Path, sample: Path) -> None:
    text = ANALYSIS.format(sample=sample)
    begin, end = text.index("skim:"), text.index("convert:")
    (tmp_path / "a.yaml").write_text(text[:begin] + text[end:])
    with pytest.raises(ConfigError, match='"ZCand_mass" is in no file of dataset WZ'):
        check(load(tmp_path / "a.yaml"))


OPEN = """\
datasets:
  mc: {files: mc.root, class: DY, generator_weights: false}
  data: {files: data.root, data: true}
regions: {SR: muon_pt > 30, CR: muon_pt < 30}
data_driven: {QCD: {from: [data], region: SR, weight: 1, into: {CR: 1}}}
skim: {selection: "opendata.py:MuTau"}
convert: {features: [muon_pt]}
train: {model: mlp}
evaluate: {data_in: [SR]}
blind: {regions: [SR]}
"""


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    for run, name in ((1, "mc"), (194_000, "data")):
        write_2012(tmp_path / f"{name}.root", Made2012(100, run, mass=91, run=run))
    shutil.copy(EXAMPLES / "opendata.py", tmp_path)
    return tmp_path / "a.yaml"


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("data", ", data: true", "", r"\S*data.root is data, .* Add `data: true`."),
        ("mc", "class: DY, generator_weights: false", "data: true", r"`data: true`, but \S*mc.root is simulation"),
    ],
)
def test_data_are_what_the_configuration_says(opened: Path, name: str, old: str, new: str, complaint: str) -> None:
    opened.write_text(re.sub("regions:(.|\n)*skim", "skim", OPEN).partition("\nconvert")[0].replace(old, new))
    config = load(opened)
    with pytest.raises(ConfigError, match=rf"a.yaml:[23]: datasets.{name}: {complaint}"):
        check(config)
    source, output = opened.with_name(f"{name}.root"), opened.with_name("s.root")
    job = replace(skim_job(config, name), source=str(source), output=output)
    with pytest.raises(NanoMLError, match=complaint):
        skim_file(job)
    assert not job.output.exists()


def test_settings_that_use_blind_data_are_told(opened: Path) -> None:
    opened.write_text(OPEN)
    stops, shows = (line for line in check(load(opened)) if "WARNING" in line)
    assert 'a.yaml:9: data in "SR" are blind: until `nanoml unblind`, `nanoml run` stops at this.' in stops
    assert 'a.yaml:5: QCD is made of data in "SR", which are blind' in shows
    text = OPEN.replace("region: SR", "region: CR").replace("into: {CR", "into: {SR")
    opened.write_text(text.replace("[SR]}\nblind", "[CR]}\nblind"))
    assert not any("WARNING" in line for line in check(load(opened)))


OWN = """\
from MLTools.NanoML.selection import Column, Selection


class Own(Selection):
    branches = ("Muon_pt",)
    columns = {"ZCand_mass": Column("f4", "mass [GeV]")}

    def select(self, events, cutflow):
        return events, {"ZCand_mass": events.Muon.mas}
"""


def test_a_mistake_in_a_selection_is_found_on_the_first_events(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    path = tmp_path / "a.yaml"
    path.write_text(ANALYSIS.format(sample=sample).replace("MLTools.NanoML.trilepton:Trilepton", "own.py:Own"))
    check(load(path))
    with pytest.raises(ConfigError, match=r"a.yaml:6: .*own.py:9: Own: .*'mas'.* The same goes for ZG\.$"):
        check(load(path), tried=10)


HISTOGRAMS = """\
train: {{model: mlp}}
histogram:
  WZ: {{}}
  plane: {{of: [analysis_ZG, "{quantity} * 2"], bins: [[2, 0, 1], [2, 0, 1]]}}
  under_shift: {{of: eventWeight_jesUp, bins: [2, 0, 1]}}
"""


@pytest.mark.parametrize(
    ("quantity", "message"),
    [
        ("MET_pt", ""),
        ("WZ", ""),
        ("MTE_pt", '"MTE_pt" is in no skim, and no output of the model: these are WZ, ZG. Did you mean'),
        ("discriminant", '"discriminant" is in no skim'),  # there is one of three classes
    ],
)
def test_what_is_filled_is_looked_for_before_the_work(
    tmp_path: Path, sample: Path, quantity: str, message: str
) -> None:
    text = ANALYSIS.format(sample=sample) + HISTOGRAMS.format(quantity=quantity)
    for name in ("WZ", "ZG"):
        text = text.replace(f"  {name}:\n", f"  {name}:\n    class: {name}\n")
    (tmp_path / "analysis.yaml").write_text(text)
    if not message:
        assert len(check(load(tmp_path / "analysis.yaml"))) == 2
        return
    with pytest.raises(ConfigError) as caught:
        check(load(tmp_path / "analysis.yaml"))
    (line,) = str(caught.value).splitlines()
    assert f"histogram.plane: {message}" in line


SHIFTED = """
from pathlib import Path
from MLTools.NanoML.selection import UP_DOWN
from MLTools.NanoML.trilepton import Trilepton

class Shifted(Trilepton):
    shifts = {"jes": UP_DOWN, "jer": UP_DOWN}

    def shift(self, events, name, direction):
        with open(Path(__file__).with_name("shifts"), "a") as file:
            print(self.dataset.name, name, file=file)
        return events
"""


def test_shifts_are_tried_once_for_an_era(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "mine.py").write_text(SHIFTED)
    text = ANALYSIS.replace("MLTools.NanoML.trilepton:Trilepton", "mine.py:Shifted")
    (tmp_path / "a.yaml").write_text(text.format(sample=sample))
    check(load(tmp_path / "a.yaml"), 100)
    assert (tmp_path / "shifts").read_text().split("\n") == ["WZ jes"] * 2 + ["WZ jer"] * 2 + [""]
