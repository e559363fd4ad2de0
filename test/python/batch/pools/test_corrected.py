"""The analysis of doc/analysis.md, with two eras, corrections, weights, shifts, a collection and regions, in jobs: as without."""

from __future__ import annotations

import json
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

pytest.importorskip("data_processing.skim.skim")
pytest.importorskip("XRootD")
pytest.importorskip("correctionlib")

from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from services.analysis import EXAMPLE, Analysis, branches_of, equal
from services.xrootd import Storage

pytestmark = [pytest.mark.service, pytest.mark.exhaustive("an analysis with all corrections, in jobs")]

ROOT = EXAMPLE.parent
PYTHON = Path(sys.base_prefix, "bin", "python3")
SAMPLES = {"signal": "WprimeToWZToLNuLL_M600", "WZ": "WZTo3LNu_Pt100"}
ERAS = {"2018": 59.8, "2022": 8.0}
APART = "condor without shared files"
INPUTS = ["Lep1_pt", "missing", "nBJet"]


class Corrected(Analysis):
    """The analysis, of one file for each dataset and era; `place` has its inputs, and gets its results."""

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
        for name, sample in SAMPLES.items():
            for era, number in zip(ERAS, (0, 2)):
                source = EXAMPLE / "nano" / sample / f"{sample}_{number}.root"
                shutil.copy(source, place / f"{name}_{era}_0.root")
                datasets[f"{name}_{era}"] = {
                    "files": str(place / f"{name}_{era}_0.root"), "era": era, "class": name, "cross_section": 0.1
                }  # fmt: skip
        self.content = {
            "workdir": str(place / "results"),
            "eras": {
                era: {"luminosity": value, "corrections": f"corrections/{era}.yaml"} for era, value in ERAS.items()
            },
            "datasets": datasets,
            "regions": {"SR": "nBJet == 0 && missing > 30", "CR_b": "nBJet > 0"},
            "skim": {"selection": "corrected.py:Corrected", "workers": 1},
            "convert": {"features": INPUTS, "objects": {"GoodJet": {"fields": ["pt", "eta"], "max": 4}}},
            "score": {"model": [model.name]},
            "batch": {**self.content["batch"], **batch},
        }
        self.write()


@pytest.fixture(scope="module")
def model(linear_model: Callable[..., Path]) -> Path:
    return linear_model(INPUTS, targets=("a", "b", "c"))


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Corrected:
    """What it gives without jobs."""
    directory = tmp_path_factory.mktemp("expected")
    analysis = Corrected(directory / "analysis", directory, model, {}, "local")
    said = analysis.nanoml("run", "analysis.yaml")
    assert "skim: 4 of 4 to do" in said
    return analysis


# jobs in HTCondor that see the files of the submitting machine are test_pipeline_batch.py's
@pytest.fixture(params=["slurm", APART])
def analysis(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Iterator[Corrected]:
    """The analysis in a pool, whose jobs do not stay behind."""
    if request.param == APART:
        storage: Storage = request.getfixturevalue("storage")
        place = storage.directory / uuid.uuid4().hex
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        batch = {"site": "site.yaml", "environment": "packed", "python": str(PYTHON), "files_per_job": 4}
        service = request.getfixturevalue("condor_pool").environment
        made = Corrected(tmp_path / "analysis", place, model, service, "condor", **batch)
        site = f'shared: false\nstorage: {{"{storage.directory}/": "{storage.url}/"}}\n'
        (made.directory / "site.yaml").write_text(site)
    else:
        place, service = tmp_path, request.getfixturevalue("slurm").environment
        made = Corrected(tmp_path / "analysis", place, model, service, "slurm")
    yield made
    made.nanoml("kill", "analysis.yaml", check=False)
    shutil.rmtree(place)


def test_jobs_give_what_a_run_gives(analysis: Corrected, expected: Corrected) -> None:
    said = analysis.submit("pipeline")
    assert " jobs on " in said
    page = analysis.wait()
    assert "Everything is done." in page
    analysis.check(expected)
    here, there = expected.workdir, analysis.workdir
    assert not list(there.rglob("*.part-*"))
    assert {path.suffix for path in (there / "skims").rglob("*") if path.is_file()} == {".root"}
    for path in sorted(here.glob("*/*/*.root")):
        found = there / path.relative_to(here)
        assert equal(branches_of(found), branches_of(path)), path
        assert record_of(found) == record_of(path)
    shifted = branches_of(there / "skims" / "WZ_2018" / "WZ_2018_0.root")
    assert {"Events/missing_jesUp", "Events/GoodJet_jerDown_pt", "Events/weight_pileupUp"} <= set(shifted)
    for path in sorted(here.glob("hdf5/*.h5")):
        assert content_of(there / path.relative_to(here)) == content_of(path)


def record_of(path: Path) -> Any:
    """What a file says of itself, but for the places of its inputs."""
    with RootFile(path) as file:
        record = Provenance.of(file)
    assert record is not None
    files = [replace(each, file=Path(each.file).name) for each in record.accounting.files]
    return replace(record, accounting=replace(record.accounting, files=files))


def content_of(path: Path) -> Any:
    """An HDF5 file, but for the directories of its inputs."""
    with h5py.File(path) as file:
        data = {name: (values.dtype, values[()].tobytes()) for name, values in file.items() if values.shape}
    return data, re.sub('"[^"]*/', '"', json.dumps(metadata_content(path)))
