from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from services.nanoaodtools import Postprocess, postprocessor


@pytest.fixture
def postprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Postprocess:
    """Runs nanoAOD-tools on a file (with friends after commas); returns the output."""
    runner = postprocessor()
    module = sys.modules[runner.__module__]
    make = module.InputTree

    def input_tree(tree: Any, *entries: Any) -> Any:
        """A tree in whose place an earlier one was, as one of a job that failed, would keep the reader of that."""
        if hasattr(tree, "_ttreereader"):
            del tree._ttreereader
        return make(tree, *entries)

    monkeypatch.setattr(module, "InputTree", input_tree)

    def run(source: Any, *modules: Any, postfix: str = "_out", **options: Any) -> Path:
        job = runner(str(tmp_path), [str(source)], modules=modules, compression="none", postfix=postfix, **options)
        job.run()
        return tmp_path / Path(str(source).split(",")[0]).name.replace(".root", f"{postfix}.root")

    return run
