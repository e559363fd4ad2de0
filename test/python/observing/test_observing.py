"""What user code touches is noted, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.loading import load_module
from MLTools.NanoML.observing import observed, state

CODE = """
import csv, glob, importlib, json, os, pkgutil, sqlite3, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from MLTools.NanoML import trilepton

HERE = Path(__file__).parent
AT_IMPORT = (HERE / "tables" / "import.json").read_text()

def touch(what):
    if what == "file":
        json.load(open(HERE / "tables" / f"{'s'}f.json"))
    elif what == "absent":
        (HERE / "absent.json").exists() or pytest_absent()
    elif what == "folder":
        os.listdir(HERE / "tables")
    elif what == "pattern":
        sorted(HERE.glob("tables/*")), glob.glob(str(HERE / "tables" / "s*")), list(HERE.rglob("*.json"))
    elif what == "sought":
        os.path.exists(HERE / "tables"), os.access(HERE / "absent.json", os.R_OK)
    elif what == "sought by pathlib":
        (HERE / "tables" / "sf.json").is_file(), (HERE / "absent.json").exists()
    elif what == "link":
        os.path.lexists(HERE / "absent.json")
    elif what == "data of a package":
        pkgutil.get_data("packed", "table.txt")
    elif what == "zip":
        sys.path.insert(0, str(HERE / "zipped.zip"))
        import zipped
    elif what == "read and write":
        open(HERE / "tables" / "sf.json", "r+").close(), np.memmap(HERE / "tables" / "sf.json")
    elif what == "threads":
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(np.fromfile, [HERE / "tables" / name for name in ("sf.json", "import.json")]))
    elif what == "database":
        sqlite3.connect(HERE / "tables" / "sf.json").close()
    elif what == "bytes":
        return os.environb[b"MY_VERSION"]
    elif what == "own variable":
        os.environ["MY_OWN"] = "1"
        return os.environ["MY_OWN"]
    elif what == "variable":
        return os.environ.get("MY_VERSION"), os.getenv("MY_OTHER"), "MY_THIRD" in os.environ, os.environ.get("TMPDIR")
    elif what == "module":
        return importlib.import_module("by_name").X
    elif what == "written":
        path = HERE / "new.txt"
        path.write_text("x"), open(HERE / "more.txt", "w+").close()
        path.read_text()

def pytest_absent():
    try:
        open(HERE / "absent.json")
    except FileNotFoundError:
        pass
"""


@pytest.fixture
def mine(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "sf.json").write_text("{}")
    (tmp_path / "tables" / "import.json").write_text("{}")
    name = f"mine_{abs(hash(str(tmp_path)))}.py"
    (tmp_path / name).write_text(CODE)
    return load_module("selection", name, "nanoml_selection", tmp_path)


def noted(tmp_path: Path, mine: Any, what: str) -> dict[str, str | None]:
    with observed() as seen:
        mine.touch(what)
    return {key.replace(str(tmp_path), ""): value for key, value in seen.items()}


@pytest.mark.parametrize(
    ("what", "keys"),
    [
        *(("file", ["file /tables/sf.json"]), ("absent", ["file /absent.json"]), ("folder", ["folder /tables"])),
        ("pattern", ["glob /tables/s*", "paths /**/*.json", "paths /tables/*"]),
        ("sought", ["presence /absent.json", "presence /tables"]),
        ("sought by pathlib", ["presence /absent.json", "presence /tables/sf.json"]),
        ("link", ["presence /absent.json"]),
        *(("data of a package", ["file /packed/__init__.py", "file /packed/table.txt"]), ("zip", ["file /zipped.zip"])),
        ("read and write", ["file /tables/sf.json"]),
        *(("threads", ["file /tables/import.json", "file /tables/sf.json"]), ("database", ["file /tables/sf.json"])),
        *(("bytes", ["variable MY_VERSION"]), ("own variable", [])),
        ("variable", ["variable MY_OTHER", "variable MY_THIRD", "variable MY_VERSION"]),
        *(("module", ["file /by_name.py"]), ("written", [])),
    ],
)
def test_what_is_noted(tmp_path: Path, mine: Any, what: str, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "by_name.py").write_text("X = 1\n")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "__init__.py").write_text("")
    (tmp_path / "packed" / "table.txt").write_text("1")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as file:
        file.writestr("zipped.py", "X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "by_name", raising=False)
    monkeypatch.setenv("MY_VERSION", "v1")
    found = noted(tmp_path, mine, what)
    assert sorted(found) == keys
    absent = ("file /absent.json", "presence /absent.json", "variable MY_OTHER", "variable MY_THIRD")
    assert [key for key, it in found.items() if it is None] == [key for key in keys if key in absent]


def test_what_is_read_at_import_counts_for_each_task(tmp_path: Path, mine: Any) -> None:
    found = []
    for _ in range(3):  # it is imported once for all tasks
        with observed() as seen:
            found.append(load_module("selection", Path(mine.__file__).name, "nanoml_selection", tmp_path))
        assert list(seen) == [f"file {tmp_path / 'tables' / 'import.json'}"]
    assert found[0] is found[1] is found[2]
    with observed() as seen:
        pass
    assert not seen


KEEPING = """
import functools, os
from pathlib import Path
HERE = Path(__file__).parent
lazy = None

@functools.lru_cache
def table(name):
    return (HERE / name).read_text()

class Tables:
    kept = {}

def touch(name):
    global lazy
    lazy = lazy or os.environ.get("MY_VERSION")
    import helper_of_mine
    Tables.kept.setdefault(name, helper_of_mine.read(HERE / ("both" + ".txt")))
    return table(name), Tables.kept[name], lazy
"""
HELPER = "import functools\n@functools.lru_cache\ndef read(path):\n    return path.read_text()\n"


def test_what_user_code_keeps_counts_for_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = dict.fromkeys(("a.txt", "b.txt", "both.txt"), "1")
    for name, text in {"keeps.py": KEEPING, "helper_of_mine.py": HELPER, **texts}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("MY_VERSION", "v1")

    def task(name: str) -> tuple[Any, list[str]]:
        with observed() as seen:
            found = load_module("selection", "keeps.py", "nanoml_selection", tmp_path).touch(name)
        return found, [key.replace(f"{tmp_path}/", "") for key in seen]

    load_module("selection", "keeps.py", "nanoml_selection", tmp_path).touch("a.txt")  # when tasks are planned
    own = ["file both.txt", "file helper_of_mine.py", "variable MY_VERSION"]
    for name in ("a.txt", "b.txt", "a.txt", "a.txt"):
        assert task(name) == (("1", "1", "v1"), [f"file {name}", *own])
    (tmp_path / "both.txt").write_text("2")
    (tmp_path / "a.txt").write_text("2")
    assert task("a.txt") == (("2", "2", "v1"), ["file a.txt", *own])


def test_what_user_code_keeps_counts_in_a_program(tmp_path: Path) -> None:
    """The module of the program, such as the command `nanoml`, is none that is imported."""
    keeps = "import functools\n@functools.cache\ndef table():\n    open('table.txt').close()\n"
    program = """if True:
        from MLTools.NanoML.loading import load_module
        from MLTools.NanoML.observing import observed
        for _ in range(2):
            with observed() as seen:
                load_module("selection", "keeps.py", "nanoml_selection").table()
            print(*seen)
    """
    for name, text in {"keeps.py": keeps, "program.py": program, "table.txt": ""}.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == f"file {tmp_path}/table.txt\n" * 2


@pytest.mark.parametrize("when", ["read", "imported"])
def test_a_file_that_is_changed_while_a_task_reads_it_is_an_error(tmp_path: Path, mine: Any, when: str) -> None:
    path = tmp_path / "tables" / ("sf.json" if when == "read" else "import.json")
    with pytest.raises(NanoMLError, match=f"^{path}: was changed while your code read it. Run the same"), observed():
        load_module("selection", Path(mine.__file__).name, "nanoml_selection", tmp_path).touch("file")
        os.utime(path, (1, 1))  # as another program might


def test_code_that_is_not_what_another_process_has_planned_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / f"planned_{abs(hash(str(tmp_path)))}.py"
    path.write_text("X = 1\n")
    planned = {str(path): state(f"file {path}")}
    path.write_text("X = 2\n")
    with pytest.raises(NanoMLError, match=f"{path}, or what it names, was changed after"), observed(planned):
        load_module("selection", path.name, "nanoml_selection", tmp_path)


def test_what_killed_runs_have_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os\nfrom MLTools.NanoML.observing import observed\nwith observed():\n    os._exit(0)"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for age in (0, 100, 0):
        subprocess.run([sys.executable, "-c", script], check=True)
        for path in tmp_path.iterdir():
            os.utime(path, (time.time() - age,) * 2)
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize(
    "line",
    [
        *("import shared_{}", "from shared_{} import CUT", "def touch(what):\n    import shared_{}"),
        "import importlib\nCUT = importlib.import_module('shared_' + '{}').CUT",
        "from importlib import import_module\ndef touch(what):\n    import_module('shared_' + '{}')",
        *("import behind_{}", "import package_{}.inner"),
    ],
)
def test_a_helper_that_was_imported_before_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    name = f"{abs(hash(line + str(tmp_path)))}"
    helpers = tmp_path / "helpers"
    (helpers / f"package_{name}").mkdir(parents=True)
    monkeypatch.syspath_prepend(helpers)
    (tmp_path / "cut.txt").write_text("20")
    (helpers / f"shared_{name}.py").write_text(f"import os\nCUT = open({str(tmp_path / 'cut.txt')!r}).read()\n")
    (helpers / f"behind_{name}.py").write_text(f"from shared_{name} import CUT as PT\n")
    (helpers / f"package_{name}" / "__init__.py").write_text("")
    (helpers / f"package_{name}" / "inner.py").write_text("from . import most\n")
    (helpers / f"package_{name}" / "most.py").write_text(f"import shared_{name}\n")
    found = []
    for each in ("first", "second", "second"):
        (tmp_path / f"{each}_{name}.py").write_text("def touch(what): pass\n" + line.format(name) + "\n")
        with observed() as seen:
            load_module("selection", f"{each}_{name}.py", "nanoml_selection", tmp_path).touch("")
        found.append({key: it for key, it in seen.items() if not key.startswith("folder")})
    assert found[0] == found[1] == found[2]
    assert {f"file {tmp_path / 'cut.txt'}", f"file {helpers / f'shared_{name}.py'}"} <= found[0].keys()
    (tmp_path / f"other_{name}.py").write_text("")
    with observed() as seen:
        load_module("selection", f"other_{name}.py", "nanoml_selection", tmp_path)
    assert not seen


FORKED = """
import multiprocessing, os
from pathlib import Path

def read(path):
    Path(path).with_suffix(".new").write_text("x")
    return Path(path).read_text(), Path(path).with_suffix(".new").read_text(), os.environ.get("MY_VERSION")

class Cuts(list):
    def __getitem__(self, item):
        return read(super().__getitem__(item))[0]

def touch(method, path):
    if method == "loader":
        from torch.utils.data import DataLoader
        return list(DataLoader(Cuts([path]), num_workers=1))
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.map(read, [path])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "loader"])
def test_processes_of_user_code_are_observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    if method == "loader":
        pytest.importorskip("torch")
    name = f"forks_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(FORKED)
    (tmp_path / "cut.txt").write_text("20")
    for place in (name, f"{name}.py"):  # neither is on the import path
        with observed() as seen:
            load_module("selection", place, "nanoml_selection", tmp_path).touch(method, str(tmp_path / "cut.txt"))
        found = [key for key in seen if not key.endswith(".py")]  # torch reads where it was called
        assert found == [f"file {tmp_path / 'cut.txt'}", "variable MY_VERSION"]


def test_a_process_that_a_task_starts_is_observed_too(tmp_path: Path, mine: Any) -> None:
    script = (
        "import sys; from MLTools.NanoML.loading import load_module\n"
        f"load_module('selection', sys.argv[1], 'nanoml_selection', {str(tmp_path)!r}).touch('file')"
    )
    with observed() as seen:
        subprocess.run([sys.executable, "-c", script, Path(mine.__file__).name], check=True)
    assert [key.rpartition("/")[2] for key in seen] == ["import.json", "sf.json"]


def test_what_an_installed_nanoml_reads_is_not_its_users(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    read: dict[str, Any] = {"__name__": "MLTools.NanoML.reader", "os": os}
    place = "/venv/lib/python3/site-packages/MLTools/NanoML/reader.py"
    exec(compile("def read(path): return os.path.exists(path) and path.read_text()", place, "exec"), read)
    with observed() as seen:
        assert read["read"](tmp_path / "a.json") == "{}"
    assert not seen


def test_states_change_with_what_they_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    keys = [f"file {path}", f"folder {tmp_path}", "variable MY_VERSION", f"file {tmp_path / 'a.py'}"]
    monkeypatch.delenv("MY_VERSION", raising=False)
    before = [*map(state, keys)]
    assert [each is None for each in before] == [True, False, True, True]
    path.write_text("a")
    (tmp_path / "a.py").write_text("X = 1\n")
    monkeypatch.setenv("MY_VERSION", "v1")
    after = [*map(state, keys)]
    assert all(one != other for one, other in zip(before, after))
    status = path.stat()
    path.write_text("b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "a.py").write_text("X = 1  # a comment\n")
    assert [one == other for one, other in zip(after, map(state, keys))] == [False, True, True, True]
    (tmp_path / "a.py").write_text("a template, which is not Python\n")
    assert state(keys[-1]) is None


def test_a_library_that_opens_files_unseen_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from MLTools.NanoML.selection import load_selection

    text = "import correctionlib\nfrom MLTools.NanoML.selection import Selection\n\nclass A(Selection):\n    pass\n"
    for name, more in (("without_file", ""), ("with_file", "    def __init__(self):\n        self.file('sf.json')\n")):
        (tmp_path / f"{name}.py").write_text(text.replace("    pass\n", more or "    pass\n"))
        with observed() as seen:
            load_selection(f"{name}.py:A", tmp_path)
        assert list(seen) == [f"file {tmp_path / 'sf.json'}"] * bool(more)
        said = f"WARNING {tmp_path / name}.py:1: correctionlib opens files unseen"
        assert (said in capsys.readouterr().err) == (not more)
