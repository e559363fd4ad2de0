"""An analysis on a storage, whose files workers do not see in any other way, and its skims as jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional
from unittest.mock import patch

import pytest
import yaml

from MLTools.NanoML.batch.status import Status, observe
from MLTools.NanoML.batch.submit import find
from MLTools.NanoML.installation import nanoml_command
from services.daemons import wait_for
from services.xrootd import Storage

Make = Callable[..., Path]

SELECTION = """from MLTools.NanoML.trilepton import Trilepton


class Mine(Trilepton):
    pass
"""


@pytest.fixture
def place(storage: Storage) -> Iterator[Path]:
    path = storage.directory / uuid.uuid4().hex
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def analysis(tmp_path: Path, place: Path, storage: Storage, sample: Path) -> Make:
    """Writes an analysis whose files and work directory are on the storage."""

    def write(
        batch: Mapping[str, Any], train: Optional[Mapping[str, Any]] = None, workdir: str = "work", **skim: Any
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
                name: {"files": f"{place}/{name}/*.root", "class": kind, "cross_section": 0.1}
                for name, kind in {"WprimeToWZToLNuLL_M600": "signal", "WZTo3LNu_Pt100": "WZ"}.items()
            },
            "skim": {"selection": "mine.py:Mine", "keep": ["MET_pt"], "workers": 1, **skim},
            "convert": {"features": ["ZCand_mass", "MET_pt", "WCand_mT"]},
            **({"train": dict(train)} if train else {}),
            "batch": {"site": "site.yaml", "files_per_job": 2, **batch},
        }
        path = base / "analysis.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def nanoml(*words: object, environment: Mapping[str, str], check: bool = True) -> str:
    line, environ = [*nanoml_command(), *map(str, words)], {**os.environ, **environment}
    done = subprocess.run(line, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def skim_on(
    system: str, config: Path, environment: Mapping[str, str], meanwhile: Callable[[], None] = lambda: None
) -> Status:
    """Submit the skims, do something, and wait until they are done."""
    nanoml("submit", "skim", config, "--on", system, environment=environment)
    try:
        meanwhile()
        with patch.dict(os.environ, environment):
            wait_for(lambda: observe(find(config)).is_active is False, "the end of all jobs", seconds=400, every=0.3)
            status = observe(find(config))
    finally:
        nanoml("kill", config, environment=environment, check=False)
    logs = "\n".join(path.read_text() for path in status.submission.directory.glob("logs/*.log"))
    assert status.is_done, f"{status}\n{logs}"
    return status
