"""Extensions: those that are hidden or lack something are not there, and all else works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML import extending
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Declaration, Extension, added_to, extended, extensions, settings_of
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.schema.settings import json_schema, setting

ROOT = Path(__file__).resolve().parents[2]
HERE = [*extensions()]


@dataclass(frozen=True)
class Ours:
    """What an extension adds."""

    shade: str = setting("red", "A colour.")


@dataclass(frozen=True)
class Again:
    depth: int = setting(1, "A depth.")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets which extensions there are; their modules are this one."""
    monkeypatch.setitem(sys.modules, "ours.settings", sys.modules[__name__])

    def use(**given: Extension) -> None:
        monkeypatch.setattr(extending, "_packages", lambda: dict.fromkeys(given, "ours"))
        for name in ("extensions", "_declared"):
            monkeypatch.setattr(extending, name, lambda: given)

    return use


def section() -> Any:
    @extended("train")
    @dataclass(frozen=True)
    class Section:
        """A section."""

        depth: int = setting(2, "How deep.")

        @property
        def doubled(self) -> int:
            return 2 * self.depth

    return Section


def test_settings_stand_behind_those_of_the_section(found: Callable[..., None]) -> None:
    found(ours=Extension("ours", fields={"train": "settings:Ours", "batch": "settings:Again"}))
    kind = section()
    assert [it.name for it in fields(kind)] == ["depth", "shade"]
    assert json_schema(kind)["description"] == "A section."
    made = build(kind, {"shade": "blue", "depth": 3})
    assert settings_of(made, Ours).shade == "blue"
    assert (made.doubled, plain(made)) == (6, {"depth": 3, "shade": "blue"})
    assert plain(added_to(made)) == {"depth": 2, "shade": "blue"}


def test_without_extensions_a_section_is_as_it_is_written(found: Callable[..., None]) -> None:
    found()
    kind = section()
    assert kind.__mro__[1:] == (object,)
    assert plain(added_to(kind(5))) == {"depth": 2}


def test_a_setting_that_is_there_already_is_refused(found: Callable[..., None]) -> None:
    found(ours=Extension("ours", fields={"train": "settings:Again"}))
    with pytest.raises(NanoMLError, match="train.depth is a setting already"):
        section()


def test_stages_stand_where_they_say(monkeypatch: pytest.MonkeyPatch, found: Callable[..., None]) -> None:
    from MLTools.NanoML import stages

    added = [
        Declaration(name, "settings:make", ["train"], after=after) for name, after in (("one", "skim"), ("two", None))
    ]
    found(ours=Extension("ours", stages=added))
    monkeypatch.setattr(stages, "stages", extending.stages)
    order = stages._in_order()
    assert [it.name for it in order][:2] == ["skim", "one"]
    assert (order[-1].name, order[-1].maker) == ("two", "ours.settings:make")


def test_what_an_extension_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "plain": Extension("plain"),
        "part": Extension("part", needs=["no_such_part"]),
        "late": Extension("late", fields={"train": "settings:Ours"}, python=(4, 0)),
        "behind": Extension("behind", needs=["part"]),
    }
    monkeypatch.setattr(extending, "_packages", lambda: {name: f"given.{name}" for name in given})
    monkeypatch.setitem(sys.modules, "given.late.settings", sys.modules[__name__])
    for name, it in given.items():
        monkeypatch.setitem(sys.modules, f"given.{name}", type(sys)(name))
        monkeypatch.setattr(sys.modules[f"given.{name}"], "EXTENSION", it, raising=False)
    monkeypatch.setattr(extending, "_declared", extending._declared.__wrapped__)
    here, lacking = extending._read.__wrapped__()
    assert [*here] == ["plain"]
    assert lacking == {"part": "no_such_part", "late": "Python 4.0", "behind": "part"}
    # its settings are known: the same file is read where the extension is there
    assert [it.name for it in fields(section())] == ["depth", "shade"]


def nanoml(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "MLTools.NanoML.cli", *arguments]
    inherited = {**os.environ, extending.WITHOUT: "", **environment}
    return subprocess.run(line, cwd=directory, env=inherited, capture_output=True, text=True, check=False)


def installed(directory: Path, init: str) -> str:
    """A directory with the package `broken`, as pip would install it."""
    for name, text in {
        "entry_points.txt": "[nanoml.extensions]\nbroken = broken\n",
        "METADATA": "Name: broken\n",
    }.items():
        (directory / "broken-1.dist-info").mkdir(parents=True, exist_ok=True)
        (directory / "broken-1.dist-info" / name).write_text(text)
    (directory / "broken").mkdir()
    (directory / "broken" / "__init__.py").write_text(init)
    return os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])


def test_a_broken_extension_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = installed(tmp_path, "import no_such_module\n")
    done = nanoml(tmp_path, "--help", PYTHONPATH=path)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert (
        "extension broken: broken: ModuleNotFoundError: No module named 'no_such_module'. Mend or remove it, or: "
        in said
    )
    assert "Traceback" not in said
    assert nanoml(tmp_path, "--without", "broken", "--help", PYTHONPATH=path).returncode == 0


WITHOUT = """
import sys
from pathlib import Path
from click.testing import CliRunner
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError

def run(*arguments):
    done = CliRunner().invoke(nanoml, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output

run("--help")
for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
    try:
        load(path)
    except ConfigError as problem:
        assert "Extensions here: " in str(problem)  # it asks for what is not there
for name in ("trilepton", "wz"):
    run("config", "check", f"{sys.argv[1]}/{name}.yaml")
print(run("config", "schema"))
"""


@pytest.mark.exhaustive("each extension is hidden in turn")
@pytest.mark.parametrize("name", [*HERE, "all"])
def test_without_each(name: str, tmp_path: Path) -> None:
    pytest.importorskip("data_processing.check")
    line = [sys.executable, "-c", WITHOUT, str(ROOT / "examples")]
    environment = {**os.environ, extending.WITHOUT: name}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    here = json.loads(done.stdout)["$comment"].partition(": ")[2].partition(";")[0].split(", ")
    left = {it for it in HERE if name not in (it, *extending.extensions()[it].needs)}
    assert here == ["none"] if name == "all" else {*here} >= left and name not in here
