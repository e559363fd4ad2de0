from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import uproot

from processes import nanoml, on_screen, on_terminal


def test_skim_convert_and_score_without_a_configuration(tmp_path: Path, sample: Path, linear_model: Any) -> None:
    sources = sorted((sample / "WprimeToWZToLNuLL_M600").glob("*.root"))
    skim = ("skim", "--selection", "MLTools.NanoML.trilepton:Trilepton", "-o", "skims", "--keep", "MET_*", *sources)
    done = nanoml(*skim, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "799 of 3,000 events kept, sum of weights 3000" in done.stderr
    again = nanoml(*skim, cwd=tmp_path)
    assert again.returncode == 0
    assert "skim: up to date (3 of 3)" in again.stderr
    nothing = nanoml("skim", "-o", "nothing", "--cut", "MET_pt > 1e9", sources[0], cwd=tmp_path)
    assert '  WARNING: no event is left after "cut".' in nothing.stderr

    skims = sorted((tmp_path / "skims").glob("*.root"))
    done = nanoml("convert", "-o", "out.h5", "--branches", "ZCand_*", "--json", *skims, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["datasets"][0]["books"]["selected"] == 799

    model = linear_model(["ZCand_mass"], ["ZCand_mass"])
    done = nanoml("score", "--model", model, "-o", "scored", *skims, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    entries = [uproot.open(path)["Events"].num_entries for path in sorted((tmp_path / "scored").glob("*.root"))]
    assert sum(entries) == 799


def test_errors_are_one_message_without_a_traceback(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "text.root").write_text("no")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "tab.yaml").write_text("skim:\n\tselection: a:B\n")
    good = sample / "ZGToLLG" / "ZGToLLG_0.root"
    (tmp_path / "short.root").write_bytes(good.read_bytes()[:100_000])
    (tmp_path / "file").write_text("")
    selection = ("skim", "--selection", "MLTools.NanoML.trilepton:Trilepton", "-o")
    cases = [
        (("run", "empty.yaml"), 2, "empty.yaml"),
        (("run", "tab.yaml"), 2, "tab.yaml:2"),
        (("run", "absent.yaml"), 2, "absent.yaml"),
        ((*selection, "out", "text.root"), 1, "is not a ROOT file"),
        ((*selection, "out", "short.root"), 1, "truncated or damaged"),
        ((*selection, "out", "absent.root"), 1, "no such file"),
        ((*selection, "file/out", good), 1, "is a file, not a directory"),
        (("convert", "-o", "file/a.h5", good), 1, "file: cannot create this directory"),
        (("convert", "-o", "a.h5", "text.root"), 1, "is not a ROOT file"),
        (("score", "--model", "text.root", "-o", "out", good), 1, "cannot load it"),
    ]
    for arguments, code, message in cases:
        done = nanoml(*arguments, cwd=tmp_path)
        assert message in done.stderr, (arguments, done.stderr)
        assert done.returncode == code, (arguments, done.stderr)
        assert "Traceback" not in done.stderr, (arguments, done.stderr)
    left = {path.name for path in tmp_path.rglob("*") if path.suffix in (".root", ".h5")}
    assert left == {"text.root", "short.root"}


def test_a_plan_can_be_read_by_a_script(tmp_path: Path, sample: Path) -> None:
    text = f"datasets: {{ZG: {{files: {sample}/ZGToLLG/*.root}}}}\n"
    (tmp_path / "a.yaml").write_text(f"{text}skim: {{selection: 'MLTools.NanoML.trilepton:Trilepton'}}\n")
    done = nanoml("run", "a.yaml", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    to_do = {"ZG/ZGToLLG_0": "not done yet", "ZG/ZGToLLG_1": "not done yet"}
    assert json.loads(done.stdout) == [{"stage": "skim", "tasks": 2, "to_do": to_do}]
    assert os.listdir(tmp_path) == ["a.yaml"]


def test_a_skim_on_a_terminal_and_in_a_pipe(tmp_path: Path, sample: Path) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    words = ["skim", "--selection", "MLTools.NanoML.trilepton:Trilepton", "--force", "-o", "out", source]
    sent = on_terminal([sys.executable, "-m", "MLTools.NanoML.cli", *words], 80, tmp_path)
    lines = on_screen(sent).splitlines()
    assert max(map(len, lines)) <= 80
    bar = next(line for line in lines if line.startswith("skim ZGToLLG_0.root"))
    assert re.search(r"━ [0-9]+/[0-9]+ events  [0-9]+ s$", bar)
    assert "\x1b[32m━" in sent
    table = [line for line in lines if line.startswith("    ")]
    assert [line.split()[0] for line in table] == ["cut", "all", "three", "Z", "W", "Z"]
    assert len({len(line) for line in table}) == 1
    piped = nanoml(*words, cwd=tmp_path).stderr
    assert not re.search("[\x1b\r━]", piped)
    assert [line for line in piped.splitlines() if line.startswith("    ")] == table
