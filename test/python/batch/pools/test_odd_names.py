"""Names that a shell, Slurm or HTCondor could take for their own language: jobs run, or are refused by one message."""

from __future__ import annotations

import glob
import shutil
from pathlib import Path

import pytest
import uproot
import yaml

pytest.importorskip("data_processing.skim.skim")

from MLTools.NanoML.batch.status import observe
from MLTools.NanoML.batch.submission import JobRequest, Submission
from MLTools.NanoML.batch.submit import kill, submit
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import NanoMLError
from services.daemons import wait_for

NAMES = {
    "shell": 'it\'s "so"; touch canary; `touch canary` & $HOME ${x} > canary',
    "languages": "%d %A_%a {{ job }} # back\\slash é ñ 日本",
    "substitution": "$(touch canary)",
    "macros": "$$(Owner)$ENV(HOME)",
    "lines": "new\nline\n",
    "dash": "-n",
    "pattern": "[1]",
    "hidden": ".hidden",
}
REFUSED = {"local": (), "slurm": (), "condor": ("substitution", "macros", "lines")}
# paths that uproot takes for URLs
UNREADABLE = ("shell", "languages", "lines") if uproot.__version__ < "5.2" else ()


def make(directory: Path, name: str, source: Path) -> Path:
    """An analysis all of whose names are odd; as far as YAML takes them, what it names, too."""
    base = directory / name
    (base / name).mkdir(parents=True)
    inside = name if "\n" not in name else "plain"
    own = base / (inside if "[" not in name else "plain")
    own.mkdir(exist_ok=True)
    shutil.copy(source, own / f"{own.name}.root")
    content = {
        "workdir": inside,
        "datasets": {"ZG": {"files": glob.escape(f"{own.name}/{own.name}.root"), "class": "ZG"}},
        "skim": {"cut": "nMuon > 1", "keep": ["MET_pt"]},
        "batch": {"retries": 0},
    }
    config = base / f"{name}.yaml"
    config.write_text(yaml.safe_dump(content, allow_unicode=True))
    return config


@pytest.fixture(params=["local", "condor", "slurm"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    fixtures = {"condor": "condor_pool", "slurm": "slurm"}
    if request.param in fixtures:
        for key, value in request.getfixturevalue(fixtures[request.param]).environment.items():
            monkeypatch.setenv(key, value)
    return str(request.param)


def outcome(submission: Submission) -> str:
    wait_for(lambda: observe(submission).is_active is False, f"the end of {submission.name}", every=0.3)
    (job,) = observe(submission).jobs.values()
    return job.state if job.problem is None else str(job.problem)


@pytest.mark.service
@pytest.mark.exhaustive("names with all characters, in jobs")
def test_nothing_is_interpreted(system: str, tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sample / "ZGToLLG_PtG100" / "ZGToLLG_PtG100_0.root"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    submissions: dict[str, Submission] = {}
    refused: dict[str, str] = {}
    try:
        for number, (kind, name) in enumerate(NAMES.items()):
            config = make(tmp_path / str(number), name, source)
            try:
                made = submit(load(config), JobRequest("skim", system))
                assert made is not None
                submissions[kind] = made
            except NanoMLError as problem:
                refused[kind] = str(problem)
        assert set(REFUSED[system]) <= refused.keys() <= {*REFUSED[system], *UNREADABLE}
        for kind, message in refused.items():
            why = "HTCondor takes $(...) and line breaks" if kind in REFUSED[system] else "cannot be read"
            assert why in message
        assert {kind: outcome(it) for kind, it in submissions.items()} == dict.fromkeys(submissions, "done")
    finally:
        for submission in submissions.values():
            kill(submission)
    skims = sorted(path.parts[len(tmp_path.parts)] for path in tmp_path.rglob("*_0.root") if "skims" in path.parts)
    assert len(set(skims)) == len(skims)
    for folder in (tmp_path, Path.home(), Path.cwd()):
        assert not list(folder.glob("canary*"))
    assert not [path for path in tmp_path.rglob("*canary") if path.name == "canary" and path.is_file()]


def datasets(directory: Path, name: str, **batch: str) -> list[str]:
    """The datasets of an analysis that has one of this name, and these settings of jobs."""
    skim = {"cut": "nMuon > 1", "keep": ["MET_pt"]}
    content = {"datasets": {name: {"files": "*.root", "class": "ZG"}}, "skim": skim, "batch": batch}
    (directory / "analysis.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    return list(load(directory / "analysis.yaml").datasets)


ODD = [*(f"a{it}b" for it in " '\"$()`;&>%{}\n\\é[#"), "line\n"]


def test_what_names_files_or_goes_into_those_of_batch_systems_is_plain(tmp_path: Path) -> None:
    assert datasets(tmp_path, "-n") == ["-n"]
    for name in (*ODD, "a/b", "..", ".hidden", ""):
        with pytest.raises(NanoMLError, match="cannot be a name|expected one line of text"):
            datasets(tmp_path, name)
    for text in ODD:
        with pytest.raises(NanoMLError) as raised:
            datasets(tmp_path, "ZG", **dict.fromkeys(("partition", "account", "image", "python"), text))
        told = str(raised.value)
        assert [key for key in ("partition", "account", "image", "python") if f"batch.{key}: " not in told] == []
