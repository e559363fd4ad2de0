"""What a submission is made of; submitting again where files cannot be read; and submissions that other versions wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.batch.job import JobResult
from MLTools.NanoML.batch.prepare import Grouping, JobGroup, _variables, prepare
from MLTools.NanoML.batch.site import place_of
from MLTools.NanoML.batch.submission import JobOptions, JobRequest, Submission
from MLTools.NanoML.batch.submit import find, resubmit, submit, wait
from MLTools.NanoML.batch.system import TEMPLATES, render, system_of
from MLTools.NanoML.config.batch import Batch, Needs
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.workflow.records import Records
from MLTools.NanoML.workflow.task import Record, Task
from services.tokens import Tokens
from services.xrootd import TokenServer

FILES = [f"root://a//{number}.root" for number in range(10)]


def tasks(stage: str = "skim", files: Any = FILES) -> list[Task]:
    return [Task(stage, f"WZ/{n}", (file,), (Path(f"{n}.out"),), {}, "", dict) for n, file in enumerate(files)]


def groups(grouping: Grouping, stage: str = "skim", **changes: Any) -> list[JobGroup]:
    return list(grouping.groups(stage, tasks(stage, **changes)))


def counts(found: list[JobGroup]) -> list[int]:
    return [len(group.tasks) for group in found]


def test_a_job_has_as_many_files_as_configured() -> None:
    assert counts(groups(Grouping(Batch(files_per_job=4)))) == [4, 4, 2]
    assert counts(groups(Grouping(Batch(files_per_job=3)))) == [3, 3, 3, 1]
    assert counts(groups(Grouping(Batch(files_per_job=100)))) == [10]
    assert counts(groups(Grouping(Batch(files_per_job=10)), "train", files=FILES[:2])) == [1, 1]


def test_a_job_has_so_many_files_that_it_takes_about_the_time_wished() -> None:
    sizes = dict.fromkeys(FILES, 450_000_000)  # 100 s each
    assert counts(groups(Grouping(Batch(job_time="5min"), sizes))) == [3, 3, 3, 1]
    assert counts(groups(Grouping(Batch(job_time="20min"), sizes))) == [10]
    assert counts(groups(Grouping(Batch(job_time="1s"), sizes))) == [1] * 10  # a file is not cut
    large = {**sizes, FILES[0]: 10**12}
    assert counts(groups(Grouping(Batch(job_time="5min"), large)))[:2] == [1, 3]


def test_sizes_of_local_files_are_looked_up(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.root" for number in range(4)]
    for path in paths:
        with open(path, "wb") as file:
            file.truncate(450_000_000)
    found = groups(Grouping(Batch(job_time="200s")), files=[str(path) for path in paths])
    assert counts(found) == [2, 2]


def test_jobs_of_a_stage_ask_for_the_same_and_for_the_longest_time() -> None:
    sizes = {**dict.fromkeys(FILES, 450_000_000), FILES[9]: 9_000_000_000}
    found = groups(Grouping(Batch(job_time="5min"), sizes))
    assert len({group.resources for group in found}) == 1
    assert found[0].resources.time > 3 * 9_000_000_000 / 5e6


def test_what_a_job_lacked_it_gets_alone_and_twice_as_much() -> None:
    lacked = {"skim WZ/4": ("memory", Resources(memory=3000))}
    found = groups(Grouping(Batch(files_per_job=20), lacked=lacked))
    assert [task.name for task in found[0].tasks] == ["WZ/4"]
    assert sorted(task.name for group in found for task in group.tasks) == sorted(task.name for task in tasks())
    assert found[0].resources.memory == 6000
    assert counts(found) == [1, 9]
    assert found[1].resources.memory == Resources().memory


def test_the_configuration_says_what_is_asked_for() -> None:
    batch = Batch(time="2h", memory=1500, disk=9000, stages={"train": Needs(time="1d", memory=8000, cores=4, gpus=1)})
    grouping = Grouping(batch)
    assert grouping.wanted("skim", tasks()) == Resources(7200, 1500, 1, 0, 9000)
    assert grouping.wanted("train") == Resources(86400, 8000, 4, 1, 9000)
    assert grouping.wanted("train", least=Resources(memory=16000)).memory == 16000


def test_a_job_finds_the_shells_packages(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after cmsenv, also where the batch system hands no variables on."""
    pytest.importorskip("data_processing.skim.skim")
    (tmp_path / "a.yaml").write_text(
        f"datasets: {{A: {{files: {sample}/ZGToLLG/ZGToLLG_0.root}}}}\nskim: {{cut: nMuon > 1}}\nbatch: {{site: shared}}\n"
    )
    area = "/afs/it's [my] $area/müller"
    monkeypatch.setenv("CMSSW_BASE", area)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([area, os.environ.get("PYTHONPATH", "")]))
    for name in ("ROOT_PASSWORD", "PYTHON_TOKEN", "CMSSW_SECRET"):
        monkeypatch.setenv(name, "hunter2")
    config = load(tmp_path / "a.yaml")
    submission = prepare(config, place_of(config, "condor"), JobRequest("skim", dry_run=True), False, None)
    assert submission is not None
    assert not any("hunter2" in each.read_text() for each in submission.directory.rglob("*") if each.is_file())
    script = submission.directory / "job.sh"
    lines = script.read_text().partition("\nexec ")[0]
    script.write_text(f'{lines}\nprintf "%s\\n" "$CMSSW_BASE" "$PYTHONPATH" "$PATH"\n')
    command = ["env", "-i", shutil.which("bash") or "bash", str(script), "skim-0000", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [os.environ[name] for name in ("CMSSW_BASE", "PYTHONPATH", "PATH")]


@pytest.mark.service
def test_a_job_takes_a_token_along(xrootd_tokens: TokenServer, tokens: Tokens, tmp_path: Path) -> None:
    """With a server that demands it, and no proxy at all."""
    pytest.importorskip("XRootD")
    pytest.importorskip("data_processing.skim.skim")
    # another name of this machine: for this one, nothing would be asked for
    file = f"{xrootd_tokens.url.replace('127.0.0.1', 'LOCALHOST')}/store/WZTo3LNu/WZTo3LNu_0.root"
    text = f"workdir: work\ndatasets: {{A: {{files: ['{file}']}}}}\nskim: {{cut: nMuon > 1}}\nread: {{tries: 1, timeout: 5}}\n"
    (tmp_path / "a.yaml").write_text(f"{text}batch: {{site: shared}}\n")
    environment = [f"{name}={value}" for name, value in xrootd_tokens.environment.items()]

    def run(directory: Path, *command: str) -> str:
        line = ["env", "-i", f"HOME={tmp_path}", *environment, *command]
        return subprocess.run(line, cwd=directory, capture_output=True, text=True, check=True).stderr

    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:  # workers do not see /tmp
        path = Path(shutil.move(tokens.token(hours=2), Path(home, "token")))
        submit = ["submit", "skim", "a.yaml", "--on", "slurm", "--dry-run"]
        said = run(tmp_path, f"BEARER_TOKEN_FILE={path}", *nanoml_command(), *submit)
        assert "is valid for 1 h 59 min: renew it there" in said
        directory = tmp_path / "jobs" / "work-dry-run"
        payload = path.read_text().split(".")[1]
        assert not any(payload in each.read_text() for each in directory.rglob("*") if each.is_file())
        run(directory, "BEARER_TOKEN=old", "bash", "job.sh", "skim-0000", "1")
        result = JobResult.read(directory / "results" / "skim-0000.json")
        assert result is not None
        assert result.state == "done"


def test_variables_that_earlier_tasks_have_read_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, task = Records(tmp_path / ".nanoml"), Task("skim", "A/0", (), (), {}, "", dict)
    observed = {"variable MY_CUT": "1", "variable MY_OLD": None, "variable PATH": "2", "file MY_FILE": "3"}
    records.write(task, Record.of(task, (), {}, 1.0, observed))
    for name in ("MY_CUT", "MY_FILE", "MY_OWN"):
        monkeypatch.setenv(name, "80")
    assert _variables(records, [task], {"MY_OWN", "MY_ABSENT"}).items() >= {"MY_CUT": "80", "MY_OWN": "80"}.items()
    assert not {"MY_FILE", "PATH", "MY_OLD", "MY_ABSENT"} & {*_variables(records, [task], ())}
    monkeypatch.setenv("MY_API_KEY", "80")
    with pytest.raises(NanoMLError, match="MY_API_KEY, which may be a secret by its name"):
        _variables(records, [task], {"MY_API_KEY"})


def test_condor_sends_a_token_where_workers_do_not_see_it() -> None:
    options = JobOptions(shared=False, environment="container", token="/run/user/1000/bt_u1000")
    assert "/$(job).json,$(sent),/run/user/1000/bt_u1000\n" in render("condor.sub", options, gpus=False)
    assert "export BEARER_TOKEN_FILE=$PWD/bt_u1000\n" in render("job.sh", options)
    assert "TOKEN" not in render("job.sh", replace(options, token=None))


def test_a_template_of_ones_own_is_taken_before_that_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("mine {{ retries }}\n")
    assert render("job.sh", JobOptions(templates=str(tmp_path)), retries=3) == "mine 3\n"
    assert (TEMPLATES / "condor.dag").is_file()
    assert render("condor.dag", JobOptions(templates=str(tmp_path)), stages=[], retries=0).startswith("# The stages")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((b"one\n{{ wheels }}\n", "job.sh.*'wheels' is undefined"), (b"one\n{% if %}\n", "/job.sh:2: ")),
        *((b"one\n{{ retries | wheels }}\n", "/job.sh:2: No filter named 'wheels'"), (b"\xff\xfe", "job.sh")),
    ],
)
def test_a_mistake_in_a_template_is_one_message(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        render("job.sh", JobOptions(templates=str(tmp_path)), retries=1)


@pytest.mark.parametrize("word", ["a b", "'", '"', "$(touch new)", "`touch new`", "; touch new", "\né", "-n", "\\"])
def test_words_of_shell_stay_what_they_are(word: str, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("printf '%s|' {{ one | shell }} {{ several | shell }}\n")
    text = render("a.sh", JobOptions(templates=str(tmp_path)), one=word, several=[word, "x"])
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"{word}|{word}|x|"
    assert not (tmp_path / "new").exists()


def test_what_is_no_batch_system_is_one_message() -> None:
    with pytest.raises(ConfigError, match='"pbs" is not a batch system. Known: local, condor, slurm, .*crab.'):
        system_of("pbs")


IMPORTED = """
import sys
def loaded():
    return {name for name in sys.modules if name.startswith("MLTools.NanoML.batch.")}
import MLTools.NanoML.workflow.pipeline
assert not loaded(), loaded()
import MLTools.NanoML.batch.submit
from MLTools.NanoML.config.batch import SYSTEMS
assert not {*sys.modules} & {it.partition(":")[0] for it in SYSTEMS.values()}, {*sys.modules}
"""


def test_a_run_imports_nothing_of_batch_systems_and_jobs_only_that_of_theirs() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ANALYSIS = """\
datasets:
  ZG: {files: "*.root", class: ZG}
skim: {cut: nMuon >= 2, keep: [MET_pt]}
convert: {features: [MET_pt]}
batch: {retries: 0, files_per_job: 2}
"""


def test_missing_files_are_allowed_or_not(tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    for number in range(3):
        shutil.copy(sample / "ZGToLLG_PtG100" / f"ZGToLLG_PtG100_{number}.root", tmp_path)
    os.truncate(tmp_path / "ZGToLLG_PtG100_1.root", 20_000)
    analysis = tmp_path / "analysis.yaml"
    analysis.write_text(ANALYSIS)
    submission = submit(load(analysis), JobRequest("pipeline", "local"))
    assert submission is not None
    status = wait(submission, 0.2)
    (failed,) = status.of("failed")
    assert failed.problem is not None
    assert (failed.problem.kind, Path(failed.problem.file).name) == ("unreadable", "ZGToLLG_PtG100_1.root")
    assert status.counts()["skim"] == {"tasks": 3, "done": 2, "failed": 1}

    with pytest.raises(NanoMLError, match="allow a larger loss than 10%"):
        list(resubmit(submission, max_missing="10%"))
    lines = list(resubmit(submission, max_missing="1"))
    assert lines[0] == "convert: 1 task in 1 job"
    assert wait(find(analysis), 0.2).is_done
    (dataset,) = metadata_content(tmp_path / "analysis" / "hdf5" / "ZG.h5")["datasets"]
    assert [Path(it["file"]).name for it in dataset["missing"]] == ["ZGToLLG_PtG100_1.root"]
    assert len(dataset["books"]["files"]) == 2


def test_a_submission_of_another_version_is_not_read(submission: Submission) -> None:
    path = submission.directory / "submission.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 3}))
    with pytest.raises(NanoMLError, match=r"submission.json: .*version 3, which another version of NanoML wrote"):
        Submission.read(submission.directory)
