"""Datasets that stand in for others under a variation."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import Template, Templates
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.workflow.pipeline import pipeline_stages

ANALYSIS = """\
luminosity: 59.8
datasets:
  two:   {files: [two.root, more.root], class: tt, cross_section: 88}
  semi:  {files: semi.root, class: tt, cross_section: 366}
  WZ:    {files: WZ.root, class: WZ, cross_section: 5}
  up:    {files: up.root, cross_section: 88, varies: two, variation: hdamp_up}
  down:  {files: down.root, cross_section: 88, varies: two, variation: hdamp_down}
  other: {files: other.root, cross_section: 454, varies: [two, semi], variation: herwig}
convert: {features: [x]}
train: {model: mlp}
histogram: {x: {bins: [2, 0, 2]}}
"""
FILLED = {
    "two": [3.0, 4.0],
    "more": [1.0, 1.0],
    "semi": [10.0, 20.0],
    "WZ": [5.0, 5.0],
    "up": [5.0, 6.0],
    "down": [2.0, 4.0],
    "other": [12.0, 30.0],
    "upsemi": [11.0, 24.0],
}


def templates(directory: Path, text: str = ANALYSIS, endings: tuple[str, ...] = ("",)) -> dict[str, Template]:
    """The templates of an analysis, whose files are filled with the numbers above."""
    (directory / "a.yaml").write_text(text)
    for name in FILLED:
        (directory / f"{name}.root").touch()
    fill, histogram = pipeline_stages(load(directory / "a.yaml"), ("fill", "histogram"))
    for task in fill.tasks:
        job, sums = task.work.args[0], FILLED[Path(task.name).name]
        job.output.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(job.output, "w") as file:
            (process,) = job.processes
            file.attrs[process.name] = [sum(sums), sum(sums)]
            group = file.create_group(f"x/all/{process.name}")
            group.attrs["endings"], group.attrs["of_scores"], group.attrs["without"] = json.dumps(endings), False, "[]"
            group["sums"], group["squares"] = [[[0.0, *sums, 0.0]] * len(endings)] * 2
    (task,) = histogram.tasks
    job = task.work.args[0]
    job.normalisations.clear()
    task.work()
    (channel,) = Templates.read(job.output).histogram("x").channels
    return dict(channel.processes)


def test_a_dataset_stands_in_for_others_under_its_variation(tmp_path: Path) -> None:
    found = templates(tmp_path)
    assert list(found) == ["tt", "WZ"]
    assert found["tt"].nominal.tolist() == [0, 14, 25, 0]
    assert found["tt"].up["hdamp"].tolist() == [0, 15, 26, 0]
    assert found["tt"].down["hdamp"].tolist() == [0, 12, 24, 0]
    assert found["tt"].up["herwig"].tolist() == [0, 12, 30, 0]
    assert found["tt"].down["herwig"].tolist() == [0, 16, 20, 0]
    # these files have the same sums of weights and of squares; what is mirrored has no weights of its own
    assert found["tt"].up_variances["hdamp"].tolist() == [0, 15, 26, 0]
    assert found["tt"].down_variances["hdamp"].tolist() == [0, 12, 24, 0]
    assert found["tt"].down_variances["herwig"].tolist() == found["tt"].variances.tolist()
    assert not found["WZ"].up


def test_datasets_with_one_variation_vary_together(tmp_path: Path) -> None:
    more = "  upsemi: {files: upsemi.root, cross_section: 366, varies: semi, variation: hdamp_up}\n"
    found = templates(tmp_path, ANALYSIS.replace("  other:", f"{more}  other:"))
    assert found["tt"].up["hdamp"].tolist() == [0, 15 + 1, 26 + 4, 0]


def test_a_variation_of_a_weight_has_another_name(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="dataset up: hdamp_up is a variation of a weight, too"):
        templates(tmp_path, endings=("", "_hdampUp"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "varies: two, variation: hdamp_up",
            "varies: tow, variation: hdamp_up",
            'varies\\[0\\]: "tow" is not one of `datasets`',
        ),
        (", variation: hdamp_up", "", 'datasets.up: needs both "varies"'),
        ("up.root, cross", "up.root, class: tt, cross", "datasets.up.varies: is for simulation without a class"),
        ("[two, semi]", "[two, WZ]", "datasets.other.varies: takes datasets of one class"),
    ],
)
def test_a_contradiction_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert ANALYSIS.count(old) == 1
    with pytest.raises(ConfigError, match=message):
        templates(tmp_path, ANALYSIS.replace(old, new))
