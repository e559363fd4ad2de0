"""Workers that do not see the files of the submitting machine: everything travels, or is on a server of files.

Apptainer could not be installed where these tests were written: a script stands in for it. Nor was there a
/cvmfs/cms.cern.ch: the area of CMSSW is made by hand, and scripts stand in for cmsset_default.sh and scramv1.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import h5py
import numpy as np
import pytest
import yaml

from MLTools.NanoML.batch.command import nanoml_command
from MLTools.NanoML.batch.job import Job
from MLTools.NanoML.batch.result import Result
from MLTools.NanoML.batch.staging import Staging
from MLTools.NanoML.batch.status import observe
from MLTools.NanoML.batch.submit import find
from MLTools.NanoML.config import load
from MLTools.NanoML.pipeline import execute, pipeline_stages, planned
from MLTools.NanoML.task import Task
from services.condor import CondorPool
from services.slurm import Slurm
from services.xrootd import Storage

pytestmark = pytest.mark.service

PYTHON = Path(sys.base_prefix, "bin", "python3")
SELECTION = """from MLTools.NanoML.trilepton import Trilepton


class Mine(Trilepton):
    pass
"""
STAGES = ("skim", "convert")


@pytest.fixture
def place(storage: Storage) -> Iterator[Path]:
    """A directory of the storage, for one test."""
    path = storage.directory / uuid.uuid4().hex
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def analysis(tmp_path: Path, place: Path, storage: Storage, sample: Path) -> Callable[..., Path]:
    """Writes an analysis whose files and work directory are on the storage."""

    def write(
        batch: Mapping[str, Any],
        train: Optional[Mapping[str, Any]] = None,
        workdir: str = "work",
        selection: str = "mine.py:Mine",
    ) -> Path:
        for name in ("WprimeToWZToLNuLL_M600", "WZTo3LNu_Pt100"):
            (place / name).mkdir(exist_ok=True)
            for path in sorted((sample / name).glob("*.root"))[:2]:
                shutil.copy(path, place / name)
        base = tmp_path / "my analysis"
        base.mkdir(exist_ok=True)
        (base / "mine.py").write_text(SELECTION)
        site = {"shared": False, "storage": {f"{storage.directory}/": f"{storage.url}/"}}
        (base / "site.yaml").write_text(yaml.safe_dump(site))
        content = {
            "workdir": str(place / workdir),
            "luminosity": 59.8,
            "datasets": {
                "WprimeToWZToLNuLL_M600": {
                    "files": str(place / "WprimeToWZToLNuLL_M600" / "*.root"),
                    "class": "signal",
                    "cross_section": 0.0921,
                },
                "WZTo3LNu_Pt100": {
                    "files": str(place / "WZTo3LNu_Pt100" / "*.root"),
                    "class": "WZ",
                    "cross_section": 0.0546,
                },
            },
            "skim": {"selection": selection, "keep": ["MET_pt"], "workers": 1},
            "convert": {"features": ["ZCand_mass", "MET_pt", "WCand_mT"]},
            **({"train": dict(train)} if train else {}),
            "batch": {"site": "site.yaml", "files_per_job": 2, **batch},
        }
        path = base / "analysis.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def nanoml(*words: object, environment: Mapping[str, str], check: bool = True) -> str:
    done = subprocess.run(
        [*nanoml_command(), *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_on(pool: CondorPool, config: Path, stage: str, seconds: float = 150) -> None:
    """Submit a stage, and wait until it is done."""
    nanoml("submit", stage, config, "--on", "condor", environment=pool.environment)
    end = time.monotonic() + seconds
    try:
        while True:
            status = observe(find(config))
            if status.is_active is False:
                break
            assert time.monotonic() < end, status.counts()
            time.sleep(0.5)
    finally:
        nanoml("kill", config, environment=pool.environment, check=False)
    logs = "\n".join(path.read_text() for path in status.submission.directory.glob("logs/*.log"))
    assert status.is_done, f"{status}\n{logs}"


def events_in(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file["events"])


@pytest.mark.slow
def test_packed_jobs_of_condor_make_what_is_made_here(
    analysis: Callable[..., Path], place: Path, condor_pool: CondorPool
) -> None:
    here = load(analysis({}, workdir="here"))
    execute(here, STAGES)
    path = analysis({"environment": "packed", "python": str(PYTHON), "retries": 0})
    run_on(condor_pool, path, "pipeline")
    assert not any(each.reasons for each in planned(load(path), STAGES))
    for name in ("WprimeToWZToLNuLL_M600", "WZTo3LNu_Pt100"):
        one, other = (events_in(place / workdir / "hdf5" / f"{name}.h5") for workdir in ("here", "work"))
        np.testing.assert_array_equal(one, other)
        assert len(one) > 100
    assert not list(place.rglob("*.part-*"))
    assert {path.suffix for path in (place / "work" / "skims").rglob("*") if path.is_file()} == {".root"}


def cmssw(directory: Path) -> tuple[Path, dict[str, str]]:
    """An area of CMSSW, and what stands in for the release: this environment."""
    area, release = directory / "CMSSW_13_3_3", directory / "release"
    (area / "src" / "User" / "Physics" / "python").mkdir(parents=True)
    (area / "src" / "User" / "Physics" / "python" / "own.py").write_text(SELECTION)
    (area / "python" / "User").mkdir(parents=True)
    (area / "python" / "User" / "Physics").symlink_to("../../src/User/Physics/python")
    (release / "bin").mkdir(parents=True)
    (release / "cmsset_default.sh").write_text(f'export PATH="{release}/bin:$PATH"\n')
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (release / "bin" / "scramv1").write_text(
        "#!/bin/sh\n"
        '[ "$SCRAM_ARCH" = el9_amd64_gcc12 ] || exit 1\n'
        '[ "$1" = project ] && exec mkdir -p "$3/src"\n'
        "[ \"$1 $2\" = 'runtime -sh' ] || exit 1\n"
        'cat << END\nexport CMSSW_BASE="$PWD"\n'
        f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="$PWD/python:{":".join(packages)}"\nEND\n'
    )
    (release / "bin" / "scramv1").chmod(0o755)
    environment = {
        "CMSSW_BASE": str(area),
        "CMSSW_VERSION": "CMSSW_13_3_3",
        "SCRAM_ARCH": "el9_amd64_gcc12",
        "PYTHONPATH": str(area / "python"),
    }
    return release / "cmsset_default.sh", environment


@pytest.mark.slow
def test_jobs_of_condor_in_an_area_of_cmssw(
    analysis: Callable[..., Path],
    place: Path,
    condor_pool: CondorPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup, environment = cmssw(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    batch = {"environment": "cmssw", "setup": [f'export CMSSW_SETUP="{setup}"'], "retries": 0}
    path = analysis(batch, selection="User.Physics.own:Mine")
    run_on(condor_pool, path, "skim")
    assert len(list((place / "work" / "skims").rglob("*.root"))) == 4
