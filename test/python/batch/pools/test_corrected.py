"""The analysis of doc/analysis.md, with two eras, corrections, weights, shifts, a collection and regions, in jobs: as without."""

from __future__ import annotations

import json
import re
import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

pytest.importorskip("data_processing.skim.skim")
pytest.importorskip("XRootD")
pytest.importorskip("correctionlib")

from MLTools.NanoML.contracts.hdf5 import metadata_content
from services import rootfiles
from services.analysis import EXAMPLE, Analysis, branches_of, equal
from services.condor import CondorPool
from services.xrootd import Storage

pytestmark = [pytest.mark.service, pytest.mark.exhaustive("an analysis with all corrections, in jobs")]

ROOT = EXAMPLE.parent
PYTHON = Path(sys.base_prefix, "bin", "python3")
SAMPLES = {"signal": "WprimeToWZToLNuLL_M600", "WZ": "WZTo3LNu_Pt100"}
ERAS = {"2018": 59.8, "2022": 8.0}
INPUTS = ["Lep1_pt", "missing", "nBJet"]


class Corrected(Analysis):
    """The analysis, of one file for each era; `place` has its inputs, and gets its results."""

    def __init__(self, directory: Path, place: Path, model: Path, *others: Any, **batch: Any) -> None:
        super().__init__(directory, *others, names=(), batch=batch)
        files = directory / "corrections"
        own = directory.parent / "own"
        own.mkdir()
        shutil.copytree(EXAMPLE / "corrections", files, ignore=shutil.ignore_patterns("*.py"))
        # the files of one era are beside the YAML file that names them, those of the other are not
        (files / "2022").rename(own / "2022")
        self.environment["NANOML_CORRECTIONS"] = str(own)
        shutil.copy(ROOT / "python" / "templates" / "init" / "selection.py", directory)
        manual = (ROOT / "doc" / "analysis.md").read_text()
        (directory / "corrected.py").write_text(manual.partition("```python corrected.py\n")[2].partition("```")[0])
        for path in (model, model.with_suffix(".json")):
            shutil.copy(path, directory)
        datasets = {}
        for (name, sample), era in zip(SAMPLES.items(), ERAS):
            file = str(place / f"{name}_0.root")
            shutil.copy(EXAMPLE / "nano" / sample / f"{sample}_0.root", file)
            datasets[name] = {"files": file, "era": era, "class": name, "cross_section": 0.1}
        self.content = {
            "workdir": str(place / "results"),
            "eras": {era: {"luminosity": fb, "corrections": f"corrections/{era}.yaml"} for era, fb in ERAS.items()},
            "datasets": datasets,
            "regions": {"SR": "nBJet == 0 && missing > 30", "CR_b": "nBJet > 0"},
            "skim": {"selection": "corrected.py:Corrected", "workers": 1},
            "convert": {"features": INPUTS, "objects": {"GoodJet": {"fields": ["pt", "eta"], "max": 4}}},
            "score": {"model": [model.name]},
            "batch": {**self.content["batch"], **batch},
        }
        self.write()


def test_jobs_without_shared_files_give_what_a_run_gives(
    linear_model: Callable[..., Path], storage: Storage, condor_pool: CondorPool, tmp_path: Path
) -> None:
    model, there = linear_model(INPUTS, targets=("a", "b", "c")), tmp_path / "there"
    (tmp_path / "here").mkdir()
    expected = Corrected(tmp_path / "here" / "analysis", tmp_path / "here", model, {}, "local")
    assert "skim: 2 of 2 to do" in expected.nanoml("run", "analysis.yaml")
    place = storage.directory / uuid.uuid4().hex
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    batch = {"site": "site.yaml", "environment": "packed", "python": str(PYTHON), "files_per_job": 4}
    there.mkdir()
    analysis = Corrected(there / "analysis", place, model, condor_pool.environment, "condor", **batch)
    site = f'shared: false\nstorage: {{"{storage.directory}/": "{storage.url}/"}}\n'
    (analysis.directory / "site.yaml").write_text(site)
    try:
        assert " jobs on " in analysis.submit("pipeline")
        assert "Everything is done." in analysis.wait()
        check_same(analysis, expected)
    finally:
        analysis.nanoml("kill", "analysis.yaml", check=False)
        shutil.rmtree(place)


def check_same(analysis: Corrected, expected: Corrected) -> None:
    analysis.check(expected)
    here, there = expected.workdir, analysis.workdir
    assert not list(there.rglob("*.part-*"))
    assert {path.suffix for path in (there / "skims").rglob("*") if path.is_file()} == {".root"}
    for path in sorted(here.glob("*/*/*.root")):
        found = there / path.relative_to(here)
        assert equal(branches_of(found), branches_of(path)), path
        assert record_of(found) == record_of(path)
    shifted = branches_of(there / "skims" / "signal" / "signal_0.root")
    assert {"Events/missing_jesUp", "Events/GoodJet_jerDown_pt", "Events/weight_pileupUp"} <= set(shifted)
    for path in sorted(here.glob("hdf5/*.h5")):
        assert content_of(there / path.relative_to(here)) == content_of(path)


def record_of(path: Path) -> Any:
    """What a file says of itself, but for the places of its inputs."""
    record = rootfiles.record_of(path)
    files = [replace(each, file=Path(each.file).name) for each in record.accounting.files]
    return replace(record, accounting=replace(record.accounting, files=files))


def content_of(path: Path) -> Any:
    """An HDF5 file, but for the directories of its inputs."""
    with h5py.File(path) as file:
        data = {name: (values.dtype, values[()].tobytes()) for name, values in file.items() if values.shape}
    return data, re.sub('"[^"]*/', '"', json.dumps(metadata_content(path)))
