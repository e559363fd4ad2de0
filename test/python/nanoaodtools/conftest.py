from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.nanoaodtools import Postprocess, postprocessor


@pytest.fixture(scope="session")
def source(sample: Path) -> Path:
    return sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"


@pytest.fixture
def postprocess(tmp_path: Path) -> Postprocess:
    """Runs nanoAOD-tools on a file (with friends after commas); returns the output."""
    runner = postprocessor()

    def run(source: Any, *modules: Any, postfix: str = "_out", **options: Any) -> Path:
        job = runner(str(tmp_path), [str(source)], modules=modules, compression="none", postfix=postfix, **options)
        job.run()
        return tmp_path / Path(str(source).split(",")[0]).name.replace(".root", f"{postfix}.root")

    return run
