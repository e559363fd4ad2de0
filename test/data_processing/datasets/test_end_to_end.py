"""From the name of a dataset to its skim: the files of the catalogue are read from real XRootD servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from MLTools.NanoML.nanoaod.accounting import Accounting
from processes import nanoml
from services.catalogue import WZ, CatalogueServer, Content
from services.xrootd import Cluster

pytestmark = pytest.mark.service


def test_a_dataset_of_the_catalogue_is_skimmed(dbs: CatalogueServer, xrootd: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("fsspec_xrootd")
    names = [f"/store/WZTo3LNu/WZTo3LNu_{number}.root" for number in (0, 1)]
    dbs.datasets[WZ] = Content(dict.fromkeys(names, 1000))
    (tmp_path / "a.yaml").write_text(
        f"read: {{redirectors: ['{xrootd.url}']}}\n"
        f"datasets: {{WZ: {{das: {WZ}}}}}\n"
        "skim: {cut: nMuon >= 2, keep: [MET_pt]}\n"
    )
    done = nanoml("skim", "a.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (first, second) = sorted((tmp_path / "a" / ".nanoml" / "skim" / "WZ").glob("*.json"))
    for record, name in ((first, names[0]), (second, names[1])):
        (accounting,) = Accounting.from_json(json.loads(record.read_text())["summary"]).files
        assert accounting.file == f"{xrootd.url}{name}" or accounting.file.endswith(f"/{name}")
        assert 0 < accounting.selected < accounting.entries
    skims = (tmp_path / "a" / "skims" / "WZ").glob("*.root")
    assert {path.name for path in skims} == {"WZTo3LNu_0.root", "WZTo3LNu_1.root"}
