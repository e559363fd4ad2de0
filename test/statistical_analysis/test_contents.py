"""What is in a fit, and whether the training expected the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import DATA, Origin, Templates, added
from statistical_analysis.contents import agreement, fitted_processes
from statistical_analysis.model import statistical_model
from statistical_analysis.report.verdict import _remarks

Yields = dict[str, dict[str, dict[str, float]]]


def test_processes_with_their_datasets_events_and_uncertainties(
    templates: Templates, settings: Fit, luminosity: Mapping[str, Mapping[str, LogNormal]]
) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"])
    found = {it.name: it for it in fitted_processes(model, templates.histogram("wprime").origins)}
    assert list(found) == ["signal", "WZ", "ZZ", "fakes"]
    assert found["fakes"].origin == Origin(("Muon", "less WZ_2018"), True)
    assert found["fakes"].uncertainties == ("norm_fakes",)
    assert set(found["WZ"].uncertainties) == {
        "lumi_correlated", "lumi_2018", "norm_WZ", "scale", "jes", "jes_2018", "jes_2022", "jer_2018", "jer_2022",
        "btag_hfstats1_2018", "btag_hfstats1_2022",
    }  # fmt: skip
    assert found["ZZ"].uncertainties[0] == "norm_ZZ"


def reports(directory: Path, templates: Templates, by_era: bool) -> tuple[dict[str, Path], dict[str, Yields]]:
    """Reports that expect what the templates have, of one training or of one for each era; and their content by region and class."""
    paths, contents = {}, {}
    for era in ("2018", "2022") if by_era else ("",):
        yields: Yields = {}
        for histogram, region in (("wprime", "SR"), ("mass", "CR")):
            whole = added([it for it in templates.histogram(histogram).channels if era in ("", it.era)])
            yields[region] = {
                name: {"events": 50, "sum_of_weights": float(each.nominal.sum())}
                for name, each in whole.processes.items()
                if name != DATA
            }
        paths[era], contents[era] = directory / f"metrics{era}.json", yields
    return paths, contents


def write(paths: Mapping[str, Path], contents: Mapping[str, Yields]) -> None:
    for era, path in paths.items():
        regions = {region: {"yields": yields} for region, yields in contents[era].items()}
        path.write_text(json.dumps({"events": {"classes": {}}, "regions": regions}))


CHANNELS = {"SR": "wprime", "CR": "mass"}


@pytest.mark.parametrize("by_era", [False, True])
def test_the_same_events_in_each_region_and_era(templates: Templates, tmp_path: Path, by_era: bool) -> None:
    paths, contents = reports(tmp_path, templates, by_era)
    write(paths, contents)
    assert agreement(templates, CHANNELS, paths, []).state == "good"
    where = "SR 2022" if by_era else "SR"
    contents["2022" if by_era else ""]["SR"]["WZ"]["sum_of_weights"] *= 1.0002
    del contents["2022" if by_era else ""]["CR"]
    write(paths, contents)
    found = agreement(templates, CHANNELS, paths, ["fakes"])
    assert found.state == "bad"
    assert found.text.startswith(f"One of the two lacks events, or has some twice: WZ in {where} (")
    left = "CR 2022 (not in" if by_era else "CR (not in"
    assert f"Not compared: fakes (the training has other datasets), {left}" in found.text


def test_a_class_that_one_of_the_two_lacks(templates: Templates, tmp_path: Path) -> None:
    paths, contents = reports(tmp_path, templates, False)
    contents[""]["SR"]["ZG"] = contents[""]["SR"].pop("ZZ")
    write(paths, contents)
    text = agreement(templates, CHANNELS, paths, []).text
    assert "ZG in SR (50.9 in the report, 0 here), ZZ in SR (0 in the report, 50.9 here)" in text


def test_where_signs_cancel_the_rounding_of_each_weight_counts(templates: Templates, tmp_path: Path) -> None:
    paths, contents = reports(tmp_path, templates, False)
    whole = added(list(templates.histogram("wprime").channels)).processes["WZ"]
    it = contents[""]["SR"]["WZ"]
    for events, state in ((1e6, "bad"), (1e12, "good")):  # of as many events, with as large a sum of squares
        it.update(events=events, sum_of_weights=float(whole.nominal.sum()) + 0.1)
        write(paths, contents)
        assert agreement(templates, CHANNELS, paths, []).state == state


def test_without_a_report_nothing_is_compared(templates: Templates, tmp_path: Path) -> None:
    assert agreement(templates, CHANNELS, {}, []).text == "There is no report of a training in folds on these datasets."
    (tmp_path / "metrics.json").write_text("{}")
    for path in (tmp_path / "metrics.json", tmp_path / "none.json"):
        found = agreement(templates, CHANNELS, {"": path}, [])
        assert (found.state, found.text.count(f"(not in {tmp_path.name}/{path.name})")) == ("open", 2)


def test_what_is_outside_of_the_bins_is_said(templates: Templates, settings: Fit) -> None:
    model = statistical_model(templates, settings, {}, ["fakes"])
    found = {it.channel: it.what for it in model.remarks if it.kind == "outside"}
    assert list(found) == ["SR_2018", "SR_2022", "CR_2022"]
    assert found["SR_2018"] == (  # of WZ it is less than 1 %
        "signal 3.9 % below and 2.0 % above the bins, ZZ 1.3 % below and 0.6 % above the bins, "
        "fakes 2.7 % below and 1.3 % above the bins, where nothing is fitted: use `overflow: add`, or other bins"
    )
    answer = _remarks("Events in the bins?", model.remarks, ("outside",), "")
    assert (answer.state, answer.text.split("; ")[0]) == ("look", f"SR_2018: {found['SR_2018']}")
