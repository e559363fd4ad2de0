from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.stages import PARTS
from MLTools.NanoML.workflow.pipeline import pipeline_stages, results

ANALYSIS = """
eras: {2018: {luminosity: 59.8}, 2022: {luminosity: 8}}
datasets:
  A_2018: {files: A_2018.root, class: signal, era: 2018}
  A_2022: {files: A_2022.root, class: signal, era: 2022}
  B_2018: {files: B_2018.root, class: other, era: 2018}
  B_2022: {files: B_2022.root, class: other, era: 2022}
  D_2018: {files: D_2018.root, era: 2018, data: true}
skim: {selection: MLTools.NanoML.trilepton:Trilepton, cut: x > 1}
regions: {SR: x > 1, CR: x < 1}
convert: {features: [x]}
train: {regions: [SR]}
export: {selection: true}
"""


def test_a_cut_goes_into_the_model_with_the_selection_but_modules_do_not(tmp_path: Path) -> None:
    for name in ("A_2018", "A_2022", "B_2018", "B_2022", "D_2018"):
        (tmp_path / f"{name}.root").touch()
    (tmp_path / "a.yaml").write_text(ANALYSIS)
    config = load(tmp_path / "a.yaml")
    (stage,) = pipeline_stages(config, ["compile"])
    assert {task.settings["wanted"]["cut"] for task in stage.tasks} == {"x > 1"}
    names = [path.name for path in results(config, stage)]
    assert names == [f"model_with_selection_{it}.onnx" for it in ("2018", "2022", "2018_data")]
    (tmp_path / "a.yaml").write_text(ANALYSIS.replace("x > 1}\nreg", "x > 1, modules: [some.module:it]}\nreg"))
    message = "export.selection: some.module:it of skim.modules is a module of nanoAOD-tools"
    with pytest.raises(ConfigError, match=message):
        pipeline_stages(load(tmp_path / "a.yaml"), ["compile"])


def test_its_jobs_get_the_packages_of_training() -> None:
    assert "compile" in PARTS["ML_processing"]
