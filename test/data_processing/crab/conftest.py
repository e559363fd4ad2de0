from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load

MC = "/WprimeToWZToLNuLL_M600/Run2-v1/NANOAODSIM"


@pytest.fixture
def analysis(tmp_path: Path) -> Callable[..., Config]:
    """Makes a configuration of datasets and a skim, in a directory with a name that shells and globs stumble over."""
    base = tmp_path / "it's [my] $analysis"
    base.mkdir()

    def make(
        datasets: dict[str, Any] | None = None,
        score: dict[str, Any] | None = None,
        batch: dict[str, Any] | None = None,
        **skim: Any,
    ) -> Config:
        content = {
            "datasets": datasets or {"WZ": {"das": MC}},
            "skim": {"selection": "MLTools.NanoML.trilepton:Trilepton", **skim},
            "batch": batch or {"grid": {"site": "T2_CH_CERN", "directory": "/store/user/me/analysis"}},
            **({"score": score} if score else {}),
        }
        for each in content["datasets"].values():
            if not each.get("data"):
                each.setdefault("cross_section", 1.0)
                each.setdefault("class", "WZ")
        content["luminosity"] = 1.0
        path = base / "my analysis.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load(path)

    return make
