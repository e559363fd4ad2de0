from __future__ import annotations

import functools
from pathlib import Path

import pytest

from ML_processing.requests import NO_DATA, DataRequest, RepeatRequest
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.task import Task
from services.blinding import unblind_all

CONFIG = """
datasets:
  A: {files: a.root, class: signal}
  B: {files: b.root, class: other}
  C: {files: c.root}
convert:
  features: [x]
SHUFFLE
train:
"""


@pytest.mark.parametrize(
    ("shuffle", "files"), [("", ["A.h5", "B.h5"]), ("  shuffle: 0", ["all.h5"]), ("  shuffle: null", ["A.h5", "B.h5"])]
)
def test_trains_on_datasets_with_a_class_or_on_the_file_of_all(tmp_path: Path, shuffle: str, files: list[str]) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG.replace("SHUFFLE", shuffle))
    names = ("train", "evaluate", "export")
    found = {stage.name: stage for stage in pipeline_stages(load(tmp_path / "a.yaml"), names)}
    expected = [str(tmp_path / "a" / "hdf5" / name) for name in files]
    assert list(found["train"].tasks[0].inputs) == expected
    for name in ("evaluate", "export"):
        assert list(found[name].tasks[0].inputs[:-1]) == expected


def changed(tmp_path: Path, train: str) -> Task:
    (tmp_path / "a.yaml").write_text(CONFIG.replace("SHUFFLE", "").replace("train:", f"train: {{{train}}}"))
    (stage,) = pipeline_stages(load(tmp_path / "a.yaml"), ["train"])
    return stage.tasks[0]


@pytest.mark.parametrize("model", ["net.py:Net", "net:Net", "~/net.py:Net"])
def test_a_model_beside_the_yaml_file_and_its_code_count(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "net.py").write_text("class Net: ...")
    task = changed(tmp_path, f"model: '{model}'")
    assert isinstance(task.work, functools.partial)
    assert task.work.args[0].config.model == f"{tmp_path}/net.py:Net"
    assert task.settings["config"]["model"] == f"{tmp_path}/net.py:Net"
    (tmp_path / "net.py").write_text("class Net: ...  # a comment")
    assert changed(tmp_path, f"model: '{model}'").code == task.code
    (tmp_path / "net.py").write_text("class Net: width = 2")
    assert changed(tmp_path, f"model: '{model}'").code != task.code


def test_a_model_of_a_package_on_the_import_path(tmp_path: Path) -> None:
    task = changed(tmp_path, "model: ML_processing.events.inputs:Inputs")
    assert isinstance(task.work, functools.partial)
    assert task.work.args[0].config.model == "ML_processing.events.inputs:Inputs"
    assert task.code != changed(tmp_path, "model: mlp").code


@pytest.mark.parametrize("model", ["net.py:Net", "no_such_module:Net", "no.such.module:Net"])
def test_a_model_that_is_not_there(tmp_path: Path, model: str) -> None:
    with pytest.raises(ConfigError, match=r"a.yaml:9: train.model: .*: .*(there is no|no such file).*"):
        changed(tmp_path, f"model: '{model}'")


def test_the_content_of_a_checkpoint_counts_and_not_its_place(tmp_path: Path) -> None:
    for name, content in (("a.pt", "weights"), ("b.pt", "weights"), ("c.pt", "others")):
        (tmp_path / name).write_text(content)
    task = changed(tmp_path, "init: a.pt")
    assert isinstance(task.work, functools.partial)
    assert task.work.args[0].config.start.file == f"{tmp_path}/a.pt"
    assert changed(tmp_path, "init: {file: b.pt}").settings == task.settings
    for other in ("init: c.pt", "init: {file: a.pt, frozen: [layers]}", "epochs: 200"):
        assert changed(tmp_path, other).settings != task.settings


def test_where_it_is_trained_does_not_matter(tmp_path: Path) -> None:
    here = changed(tmp_path, "epochs: 3")
    assert changed(tmp_path, "epochs: 3, device: cpu, workers: 2").settings == here.settings
    assert changed(tmp_path, "epochs: 3, precision: bfloat16").settings != here.settings


def test_a_release_that_is_too_old_stops_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.yaml:10: export.cmssw: which ONNX Runtime CMSSW_9_4_0 has"):
        changed(tmp_path, "epochs: 3}\nexport: {cmssw: CMSSW_9_4_0")


WITH_DATA = """
eras: {2018: {luminosity: 59.8}, 2022: {luminosity: 8}}
datasets:
  A_2018: {files: a.root, class: signal, era: 2018}
  A_2022: {files: a.root, class: signal, era: 2022}
  B_2018: {files: b.root, class: other, era: 2018}
  B_2022: {files: b.root, class: other, era: 2022}
  D_2018: {files: d.root, era: 2018, data: true}
regions: {SR: x > 1, CR: x < 1}
convert: {features: [x]}
train: {regions: [SR]}
"""


def asked_for(tmp_path: Path, text: str) -> tuple[Task, DataRequest]:
    """The task of the evaluation, and what it asks of data."""
    (tmp_path / "a.yaml").write_text(text)
    (stage,) = pipeline_stages(load(tmp_path / "a.yaml"), ["evaluate"])
    (task,) = stage.tasks
    assert isinstance(task.work, functools.partial)
    wanted = task.work.args[0].data
    return task, wanted


def test_data_are_an_input_of_the_report_only_where_a_region_is_named(tmp_path: Path) -> None:
    hdf5 = tmp_path / "a" / "hdf5"
    task, wanted = asked_for(tmp_path, WITH_DATA)
    assert not wanted.data
    assert str(hdf5 / "D_2018.h5") not in task.inputs
    assert task.settings["eras"] == {era: [str(hdf5 / f"{name}_{era}.h5") for name in "AB"] for era in ("2018", "2022")}
    task, wanted = asked_for(tmp_path, WITH_DATA + "blind: {regions: [SR]}\nevaluate: {data_in: [CR]}")
    files = (hdf5 / "D_2018.h5",), (hdf5 / "A_2018.h5", hdf5 / "B_2018.h5")
    assert wanted == DataRequest(("CR",), {"SR": 0}, *files, 59.8, 0.5)
    assert {str(path) for path in wanted.data} < set(task.inputs)
    assert task.settings["data"]["regions"] == ["CR"]


def test_data_of_blind_regions_are_compared_after_they_are_unblinded(tmp_path: Path) -> None:
    text = WITH_DATA + "evaluate: {data_in: [SR]}"
    message = r'data_in\[0\]: data in "SR" are blind until `nanoml unblind`, since nothing says which'
    with pytest.raises(ConfigError, match=message):
        asked_for(tmp_path, text)
    (tmp_path / "d.root").write_text("events")
    unblind_all(load(tmp_path / "a.yaml"))
    _, wanted = asked_for(tmp_path, text)
    assert (wanted.regions, wanted.shares, wanted.opened) == (("SR",), {}, ("SR",))


def test_data_from_elsewhere_are_blind_too(tmp_path: Path) -> None:
    """Files in evaluate.compare may be data of any era."""
    text = WITH_DATA.replace("  D_2018: {files: d.root, era: 2018, data: true}\n", "")
    (tmp_path / "other.h5").touch()
    for more, regions in (("", ["SR", "CR"]), ("blind: {regions: [SR]}\n", ["SR"])):
        with pytest.raises(ConfigError, match='data in "SR" are blind'):
            asked_for(tmp_path, f"{text}{more}evaluate: {{data_in: [SR], compare: other.h5}}")
        if "CR" not in regions:
            _, wanted = asked_for(tmp_path, f"{text}{more}evaluate: {{data_in: [CR], compare: other.h5}}")
            assert wanted.shares == {"SR": 0}


def test_repeated_trainings_are_asked_for_and_have_a_directory_of_their_own(tmp_path: Path) -> None:
    task, _ = asked_for(tmp_path, WITH_DATA + "evaluate: {seeds: 3, learning_curve: [0.5, 0.1]}")
    assert isinstance(task.work, functools.partial)
    wanted = task.work.args[0].repeats
    assert wanted == RepeatRequest(3, (0.1, 0.5))
    assert wanted.trainings == pytest.approx(3.6)
    assert task.folders == (tmp_path / "a" / "training", tmp_path / "a" / "training_repeated")
    assert asked_for(tmp_path, WITH_DATA)[0].folders == (tmp_path / "a" / "training",)


PER_ERA = WITH_DATA.replace("train: {", "train: {per_era: true, ") + "blind: {regions: [SR]}\nevaluate: {data_in: [CR]}"


def test_each_era_has_a_training_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PER_ERA)
    hdf5, out = tmp_path / "a" / "hdf5", tmp_path / "a"
    made = {"train": "training_{}/training.json", "evaluate": "training_{}/metrics.json", "export": "model_{}.onnx"}
    for stage in pipeline_stages(load(tmp_path / "a.yaml"), tuple(made)):
        for task, era in zip(stage.tasks, ("2018", "2022"), strict=True):
            assert (task.name, task.outputs[0]) == (era, out / made[stage.name].format(era))
            assert task.folders == (out / f"training_{era}",)
            events = {path for path in task.inputs if path.endswith(".h5") and "D_" not in path}
            assert events == {str(hdf5 / f"{name}_{era}.h5") for name in "AB"}
            if stage.name == "evaluate":  # there are data of 2018 alone
                assert isinstance(task.work, functools.partial)
                wanted = task.work.args[0].data
                files = (hdf5 / "D_2018.h5",), (hdf5 / "A_2018.h5", hdf5 / "B_2018.h5")
                assert wanted == (DataRequest(("CR",), {"SR": 0}, *files, 59.8, 0.5) if era == "2018" else NO_DATA)


def test_whether_eras_are_trained_together_matters_by_their_events_alone(tmp_path: Path) -> None:
    def settings(text: str) -> object:
        (tmp_path / "a.yaml").write_text(text)
        return pipeline_stages(load(tmp_path / "a.yaml"), ["train"])[0].tasks[0].settings

    assert settings(PER_ERA) == settings(WITH_DATA)


UNBINNED = WITH_DATA + "histogram: {signal: {}}\nfit: {channels: {SR: signal, CR: signal}, unbinned: MORE}\n"


def test_each_unbinned_channel_has_ratios_whatever_else_is_in_the_fit(tmp_path: Path) -> None:
    def tasks(unbinned: str, more: str = "") -> list[Task]:
        text = UNBINNED.replace("MORE", unbinned).replace("regions: [SR]}", f"regions: [SR]{more}}}")
        (tmp_path / "a.yaml").write_text(text)
        (stage,) = pipeline_stages(load(tmp_path / "a.yaml"), ["ratios"])
        return list(stage.tasks)

    found, out = tasks("[SR]"), tmp_path / "a"
    assert [it.name for it in found] == ["SR_2018", "SR_2022"]
    ends = (".onnx", ".json", "_closure.json")
    assert list(found[0].outputs) == [out / "ratios" / f"SR_2018{end}" for end in ends]
    assert list(found[0].inputs) == [str(out / "hdf5" / f"{name}_2018.h5") for name in "AB"]
    assert found[0].settings["regions"] == {"SR": "x > 1"}
    assert found[0].settings == tasks("[SR]", ", epochs: 7, objective: result")[0].settings
    assert found[0].settings != tasks("{regions: [SR], epochs: 7}")[0].settings
