"""An analysis with jobs, as a user has it: the example's first stages in a directory, and the commands of nanoml."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import uproot
import yaml

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import PROVENANCE
from services.daemons import PATH, wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples"
DATASETS = ("WprimeToWZToLNuLL_M600", "ZGToLLG_PtG100")


def branches_of(path: Path) -> dict[str, Any]:
    """All branches of all trees of a ROOT file but its record, which says when and where it was made."""
    with uproot.open(path) as file:
        kinds = file.classnames(cycle=False)
        trees = {it: file[it].arrays(library="np") for it in kinds if kinds[it] == "TTree" and it != PROVENANCE}
        return {f"{name}/{branch}": values for name, tree in trees.items() for branch, values in tree.items()}


def equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return list(one) == list(other) and all(_equal(one[name], other[name]) for name in one)


def _equal(one: Any, other: Any) -> bool:
    if one.dtype != object:
        return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())
    return [np.asarray(each).tobytes() for each in one] == [np.asarray(each).tobytes() for each in other]


class Analysis:
    """The skim of datasets of the example, of three files each, and what becomes of its jobs, of two files each.

    It reads copies of the files in its directory, or those of a `server`, by its URL. `sections` of the YAML file are added,
    and settings of `batch` to its own. Jobs wait before they begin while the file `closed` exists.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        system: str,
        server: Optional[str] = None,
        names: Sequence[str] = DATASETS,
        **sections: Any,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.closed, self.system = directory, directory / "closed", system
        self.environment = {**environment, "PATH": PATH}
        batch = {"files_per_job": 2, "retries": 0, "disk": 100, **sections.pop("batch", {})}
        batch["setup"] = [f"while [ -e {self.closed} ]; do sleep 0.1; done", *batch.get("setup", ())]
        content = yaml.safe_load((EXAMPLE / "trilepton.yaml").read_text())
        datasets = {name: content["datasets"][name] for name in names}
        for name, dataset in datasets.items():
            files = sorted((EXAMPLE / "nano" / name).glob("*.root"))
            place = f"{server}/store" if server else "data"
            dataset["files"] = [f"{place}/{name}/{file.name}" for file in files]
            if server is None:
                (directory / "data" / name).mkdir(parents=True)
                for file in files:
                    (directory / "data" / name / file.name).write_bytes(file.read_bytes())
        kept = {"luminosity": content["luminosity"], "datasets": datasets}
        self.content = {**kept, "skim": content["skim"], "batch": batch, **sections}
        self.write()

    @property
    def workdir(self) -> Path:
        return self.directory / str(self.content.get("workdir", "analysis"))

    def write(self) -> None:
        (self.directory / "analysis.yaml").write_text(yaml.safe_dump(self.content, sort_keys=False))

    def nanoml(self, *arguments: object, check: bool = True, **environment: str) -> str:
        """Run a command in the directory, in this process, and return all that it prints."""
        said = io.StringIO()
        with self._here(environment), redirect_stdout(said), redirect_stderr(said):
            try:
                code = nanoml.main([str(word) for word in arguments], standalone_mode=False) or 0
            except (NanoMLError, click.ClickException) as problem:
                said.write(str(problem))
                code = problem.exit_code
        assert not check or code == 0, said.getvalue()
        return said.getvalue()

    @contextlib.contextmanager
    def _here(self, environment: Mapping[str, str]) -> Iterator[None]:
        variables, place = dict(os.environ), os.getcwd()
        os.environ.update(self.environment)
        os.environ.update(environment)
        os.chdir(self.directory)
        try:
            yield
        finally:
            os.chdir(place)
            os.environ.clear()
            os.environ.update(variables)

    def begin(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "MLTools.NanoML.cli", *map(str, arguments)]
        variables = {**os.environ, **self.environment, **environment}
        ends: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(words, cwd=self.directory, env=variables, **ends)

    def submit(self, what: str = "skim", **environment: str) -> str:
        return self.nanoml("submit", what, "analysis.yaml", "--on", self.system, **environment)

    def resubmit(self) -> str:
        return self.nanoml("resubmit", "analysis.yaml")

    def page(self, **environment: str) -> str:
        return self.nanoml("status", "analysis.yaml", **environment)

    def wait(self) -> str:
        """Wait until no job is active; what `nanoml status` says then."""
        return self.nanoml("status", "analysis.yaml", "--wait", "--every", 1, check=False)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.nanoml("status", "analysis.yaml", "--json"))
        return found

    def states(self) -> dict[str, str]:
        return {name: job["state"] for name, job in self.status()["jobs"].items()}

    def wait_for(self, job: str, state: str) -> None:
        wait_for(lambda: self.states()[job] == state, f"{job} {state}", every=0.3)

    def submissions(self) -> list[Path]:
        return sorted(self.directory.glob("jobs/*"), key=lambda path: int(path.name.rpartition("-")[2]))

    def done(self) -> Counter[str]:
        """How often each task, "skim NAME", was done, by the results of all submissions."""
        count: Counter[str] = Counter()
        for path in self.directory.glob("jobs/*/results/[!.]*.json"):
            with contextlib.suppress(ValueError, KeyError):
                tasks = json.loads(path.read_text())["tasks"]
                stage = path.stem.rpartition("-")[0]
                count.update(f"{stage} {name}" for name, task in tasks.items() if "kind" not in task)
        return count

    def begin_again(self, what: str, system: str) -> None:
        """What a user does after a submission of which nothing is known."""
        said = ""

        def answered() -> bool:
            nonlocal said
            said = self.nanoml("submit", what, "analysis.yaml", "--on", system, check=False)
            return "another run is active here" not in said

        wait_for(answered, "the end of the other run")
        assert "Their progress" in said or "are active here" in said or "up to date" in said, said

    def check(self, reference: Analysis) -> None:
        """Everything is done, each task once, as in an undisturbed run, and nothing else is left."""
        skims = {path.name: branches_of(path) for path in self.workdir.glob("skims/*/*.root")}
        expected = {path.name: branches_of(path) for path in reference.workdir.glob("skims/*/*.root")}
        assert skims
        assert set(skims) == {name for name in expected if name.rpartition("_")[0] in self.content["datasets"]}
        assert [name for name in skims if not equal(skims[name], expected[name])] == []
        assert set(self.done().values()) == {1}, self.done()
        records = dict(self.records())
        assert sorted(records) == sorted(name[5:] for name in self.done() if name.startswith("skim "))
        for name, record in reference.records():
            assert name not in records or without_places(records[name]) == without_places(record)
        assert [path for path in self.directory.rglob("*") if ".part-" in path.name] == []
        said = self.nanoml("submit", "skim", "analysis.yaml", "--on", self.system)
        assert "up to date" in said, said

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        folder = self.workdir / ".nanoml" / "skim"
        for path in sorted(folder.rglob("*.json")):
            yield str(path.relative_to(folder).with_suffix("")), json.loads(path.read_text())


def without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record does not depend on where and when it was made: settings, code and accounting."""
    kept = {name: record[name] for name in ("task", "settings", "code", "version")}
    text = json.dumps(record["summary"])
    text = re.sub(r'"(root:/)?/[^"]*/', '"', text)  # a job may read over the network
    return {**kept, "summary": json.loads(text)}


def clients(directory: Path, **scripts: str) -> str:
    """A PATH on which commands are replaced by scripts of shell: "false", for one that fails."""
    directory.mkdir(exist_ok=True)
    for name, script in scripts.items():
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return os.pathsep.join([str(directory), PATH])


def driver_of(analysis: Analysis) -> int:
    """The process that does the jobs of the last submission on this machine."""
    number: int = json.loads((analysis.submissions()[-1] / "driver.json").read_text())["process"]
    return number
