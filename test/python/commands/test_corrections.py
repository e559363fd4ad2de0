from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from MLTools.NanoML.corrections import Corrections
from processes import nanoml

INVENTED = ROOT / "examples" / "corrections"


def test_what_a_file_offers_is_told_described_in_full_and_given_to_scripts(tmp_path: Path) -> None:
    done = nanoml("corrections", INVENTED / "2018" / "pileup.json", cwd=tmp_path)
    assert done.returncode == 0
    for said in ("Collisions", "NumTrueInteractions (any number)", "weights (nominal, up, down)", "INVENTED"):
        assert said in done.stdout
    done = nanoml("corrections", INVENTED / "2018" / "electron.json", "Electron-ID-SF", cwd=tmp_path)
    assert "RecoBelow20, RecoAbove20," in done.stdout
    assert "# WorkingPoint may be RecoBelow20, RecoAbove20, Loose, Tight" in done.stdout
    done = nanoml("corrections", INVENTED / "2018" / "muon.json", "--json", cwd=tmp_path)
    first = json.loads(done.stdout)[0]
    assert first["name"] == "NUM_HighPtID_DEN_TrackerMuons"
    assert [each["name"] for each in first["inputs"]] == ["eta", "pt", "scale_factors"]
    assert first["inputs"][2]["choices"] == ["nominal", "systup", "systdown"]


@pytest.mark.parametrize("path", sorted(INVENTED.glob("*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_lines_that_it_shows_are_an_entry(tmp_path: Path, path: Path) -> None:
    done = nanoml("corrections", path, cwd=tmp_path)
    lines = done.stdout.partition("For the YAML file of an era\n")[2]
    assert lines
    for runs in ("1-5", "6-9"):
        lines = lines.replace("FIRST-LAST", runs, 1)
    (tmp_path / "era.yaml").write_text("\n".join(line[2:] for line in lines.splitlines()))
    corrections = Corrections.read(tmp_path / "era.yaml")
    assert corrections.names == list(yaml.safe_load((tmp_path / "era.yaml").read_text()))


def test_an_era_is_checked(tmp_path: Path) -> None:
    done = nanoml("corrections", INVENTED / "2018.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert "muon_id" in done.stdout
    found = json.loads(nanoml("corrections", INVENTED / "2018.yaml", "--json", cwd=tmp_path).stdout)
    assert [each["entry"] for each in found["entries"]] == list(yaml.safe_load((INVENTED / "2018.yaml").read_text()))
    assert len(found["files"]) == 7
    (tmp_path / "wrong.yaml").write_text("pileup: {file: none.json, name: A}")
    wrong = nanoml("corrections", "wrong.yaml", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "wrong.yaml:1: pileup: there is no file none.json" in wrong.stderr
