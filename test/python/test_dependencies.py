"""What a result depends on follows from the code: no more than that, and no less."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML import dependencies
from MLTools.NanoML.dependencies import changed, code_of, files_behind, source_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.trilepton import Trilepton

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("data_processing", "ML_processing", "statistical_analysis")
PACKAGES = {"MLTools.NanoML": "python", **{part: part for part in PARTS}}
SHELL = ("atomic", "batch", "commands", "config", "doctor", "errors", "grid")
SHELL += ("inspection", "parallel", "terminal", "workflow")
IN_SECTIONS = (ROOT / "ML_processing" / "evaluation" / "sections").glob("[!_]*.py")
SECTIONS = [f"ML_processing.evaluation.sections.{path.stem}" for path in IN_SECTIONS]
OF_DATA = "skim.skim skim.nanoaodtools_engine convert.convert shuffle merge.merge"
KERNELS = [
    *((f"data_processing.{name}",) for name in (*OF_DATA.split(), "score.score")),
    ("ML_processing.training.fold", "ML_processing.training.description", "ML_processing.networks.mlp"),
    ("ML_processing.evaluation.report", *SECTIONS, "ML_processing.networks.mlp"),
    ("ML_processing.export.export", "ML_processing.networks.transformer"),
    ("statistical_analysis.workspace", "statistical_analysis.workspace"),
]
SELECTION = "from MLTools.NanoML.selection import Selection\n"


@pytest.fixture(scope="module")
def parsed() -> dependencies._Syntaxes:
    """The syntax of all modules by their content, with what is in the user's cache: to parse them takes seconds."""
    return dependencies._Syntaxes()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clear = dependencies._known.cache_clear
    clear()
    yield
    clear()


@pytest.fixture(params=KERNELS, ids=lambda roots: roots[0])
def kernel(request: pytest.FixtureRequest, parsed: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setattr(dependencies, "_known", lambda: parsed)
    roots: tuple[str, ...] = request.param
    if not (ROOT / roots[0].partition(".")[0]).is_dir():
        pytest.skip("this part has been taken out")
    return roots


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The modules of NanoML in a copy, which are those that count from then on."""
    directories = {}
    for package, name in PACKAGES.items():
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "templates")
            directories[package] = shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    monkeypatch.setattr(dependencies, "_directories", lambda: directories)
    return [path for name in PACKAGES.values() for path in (tmp_path / name).rglob("*.py")]


def test_a_kernel_knows_nothing_of_the_shell(kernel: tuple[str, ...]) -> None:
    behind = {name.removeprefix("MLTools.NanoML.") for name in files_behind(*kernel)}
    assert not {name for name in behind if name.partition(".")[0] in SHELL}
    assert not {it for it in behind if "crab" in it or it.startswith(("data_processing.datasets", "rootio.remote"))}


# of two parts; how the others are found is the same
two_kernels = pytest.mark.parametrize("kernel", [KERNELS[0], KERNELS[7]], indirect=True, ids=["skim", "training"])


@two_kernels
def test_a_change_of_any_module_behind_a_kernel_counts(kernel: tuple[str, ...], copy: list[Path]) -> None:
    code, behind = code_of(*kernel), files_behind(*kernel)
    assert len(behind) > 10
    contents = {path: path.read_bytes() for path in behind.values()}
    for path, content in contents.items():
        path.write_bytes(content + b"\n_another = 1\n")
    assert {*behind} <= {*changed(code, code_of(*kernel))}  # a package that does more than re-export has more behind it
    for path, content in contents.items():
        path.write_bytes(content)
    assert code_of(*kernel) == code


@two_kernels
def test_no_other_change_counts(kernel: tuple[str, ...], copy: list[Path]) -> None:
    code, behind = code_of(*kernel), set(files_behind(*kernel).values())
    others = 0
    for path in copy:
        text = path.read_text()
        if path not in behind:
            path.write_text(text + "\n_another = 1\n")
            others += 1
        else:
            doc, _, rest = text.partition("\n")
            path.write_text(f"{doc.replace('.', '!')}\n# a comment\n\n{rest}\n\n# another\n\n\n")
    assert others > 50
    assert code_of(*kernel) == code


def written(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)


def names(directory: Path, spec: str) -> set[str]:
    found = files_behind(source_of(load_selection(spec, directory)), only_own=True)
    return {path.name for path in found.values() if directory in path.parents}


@pytest.mark.parametrize(
    "line",
    [
        *("from cuts_of_mine import PT", "from cuts_of_mine import PT as threshold, ETA", "import cuts_of_mine"),
        *("import cuts_of_mine as cuts", "from cuts_of_mine import *", "def later():\n    from cuts_of_mine import PT"),
    ],
)
def test_a_file_of_which_only_constants_are_imported_counts(tmp_path: Path, line: str) -> None:
    written(tmp_path, cuts_of_mine="PT = 20\nETA = 2.4\n", mine_a=f"{SELECTION}{line}\nclass A(Selection): pass\n")
    written(tmp_path, unrelated="X = 1\n")
    assert names(tmp_path, "mine_a.py:A") == {"mine_a.py", "cuts_of_mine.py"}


def test_imports_of_a_helper_and_of_a_base_count_too(tmp_path: Path) -> None:
    written(
        tmp_path,
        deep_numbers="PT = 20\n",
        deep_helper="from deep_numbers import PT\nimport deep_round\n",
        deep_round="import deep_helper\n",  # in circles
        deep_other="ETA = 2\n",
        deep_base=f"{SELECTION}from deep_other import ETA\nclass Base(Selection): pass\n",
        deep="from deep_base import Base\nimport deep_helper\nclass Deep(Base): pass\n",
    )
    expected = {f"deep{name}.py" for name in ("", "_base", "_other", "_helper", "_numbers", "_round")}
    assert names(tmp_path, "deep.py:Deep") == expected


def test_packages_and_tables_of_the_users_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "group_of_mine"
    (package / "sub").mkdir(parents=True)
    written(package, __init__="", cuts="from .sub import deep\nfrom . import tables\n", tables="NAME = 'sf.csv'\n")
    written(package / "sub", __init__="from ..last import X\n", deep="")
    written(package, last="X = 1\n", unrelated="")
    (package / "sf.csv").write_text("1,2\n")
    written(tmp_path, mine_b=f"{SELECTION}import numpy\nimport group_of_mine.cuts\nclass B(Selection): pass\n")
    found = files_behind(tmp_path / "mine_b.py", only_own=True)
    inside = ("__init__", "cuts", "tables", "last", "sub/__init__", "sub/deep")
    assert sorted(found) == sorted(["mine_b.py", *(f"group_of_mine/{name}.py" for name in inside), "sf.csv"])
    code = code_of(tmp_path / "mine_b.py")
    (package / "sf.csv").write_text("1,3\n")
    assert changed(code, code_of(tmp_path / "mine_b.py")) == ["sf.csv"]


def test_two_helpers_of_one_name_are_two(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, helper=f"X = '{name}'\n", top="import helper\n")
    roots = [tmp_path / name / "top.py" for name in ("one", "two")]
    assert len(files_behind(*roots)) == 4


def test_a_selection_of_nanoml_counts_with_what_it_imports() -> None:
    assert list(files_behind(source_of(Trilepton()), only_own=True)) == ["MLTools.NanoML.trilepton"]
    behind = files_behind(source_of(Trilepton()))
    assert {
        "MLTools.NanoML.nanoaod",  # the package around a module, too
        "MLTools.NanoML.selection.selection",
        "MLTools.NanoML.nanoaod.events",
        "MLTools.NanoML.selection.cutflow",
    } <= set(behind)


EVERYTHING = '''
"""A docstring."""
from __future__ import annotations
import os, sys as system
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import decimal
@property
async def f(a, /, b: int = 1, *c, d=2.5e-300, **e) -> "text":
    """Another."""
    async with a as b, c: pass
    await x; yield y
    return [i async for i in a if i] or {**e, 1: 2j} or {*c} or (yield)
class C(object, metaclass=type):
    x: int = ...
    def g(self): global h; nonlocal_ = lambda *a: a; raise E from None
try: del a[1:2, ..., ::3]
except (A, B) as c: assert not c, f"{c!r:>{width}} é \\N{BULLET} {{}}" "joined"
else: a @= b // c ** -d if e is not f else ~g
finally: print(b"\\x00\\xff", u"\\u2028", 10**30, 0x10, True, None, "tab\\t")
while (n := 1) < 2 <= 3 in x: break
for i, *j in k: continue
'''


def test_the_hash_is_the_same_in_every_python(tmp_path: Path) -> None:
    path = tmp_path / "everything.py"
    path.write_text(EVERYTHING)
    assert code_of(path) == "285dc4b78f8e533e"
    path.write_text(EVERYTHING.replace("decimal", "fractions").replace("docstring", "text") + "# comment\n")
    assert code_of(path) == "285dc4b78f8e533e"
    for old, new in (("x: int", "y: int"), ("2.5e-300", "2.5e-301"), ("break", "continue"), ("'", '"""')):
        path.write_text(EVERYTHING.replace(old, new))
        assert (code_of(path) == "285dc4b78f8e533e") == (old == "'")


def test_words_of_our_messages_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def f(x):\n    say(f'{x} events', 2)\n    raise NanoMLError(f'{x}: is bad.') from None\n"
    for name, is_ours in (("ours", True), ("users", False)):  # of a user's what is unblinded depends on it
        known = {"MLTools.NanoML": tmp_path} if is_ours else {}
        monkeypatch.setattr(dependencies, "_directories", lambda known=known: known)
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        code = code_of(path)
        for old, new, is_same in (
            *(("is bad.", "{{is}} wrong", True), ("{x} events", "read {x}", True), ("{x}: is", "{x + 1}: is", False)),
            *(("say(", "use(", False), ("2)", "3)", False)),
        ):
            path.write_text(text.replace(old, new))
            assert (code_of(path) == code) == (is_same and is_ours)


def test_a_file_that_is_not_python_is_named_with_its_line(tmp_path: Path) -> None:
    written(tmp_path, a="import b\n", b="X = 1\nclass Y\n")
    with pytest.raises(ConfigError, match=r"b\.py:2: SyntaxError: "):
        code_of(tmp_path / "a.py")


def test_the_cache_is_kept_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, a="X = 1\n")
    code = code_of(tmp_path / "a.py")
    assert [path.name[:7] for path in (tmp_path / "cache" / "nanoml").iterdir()] == ["syntax-"]
    for broken in ("{", "[]"):
        (file,) = (tmp_path / "cache" / "nanoml").iterdir()
        file.write_text(broken)
        dependencies._known.cache_clear()
        assert code_of(tmp_path / "a.py") == code
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    dependencies._known.cache_clear()
    assert code_of(tmp_path / "a.py") == code
    assert changed("another user's", code) == []
    monkeypatch.delenv("XDG_CACHE_HOME")

    for problem in (RuntimeError("Could not determine home directory."), KeyError("uid not found")):  # as in Python 3.9

        def no_home(problem: Exception = problem) -> Path:
            raise problem

        monkeypatch.setattr(Path, "home", no_home)
        dependencies._known.cache_clear()
        assert code_of(tmp_path / "a.py") == code


def test_what_is_in_no_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="data_processing.nothing"):
        code_of("data_processing.nothing")
    with pytest.raises(TypeError):
        source_of(type("Typed", (), {"__module__": "builtins"})())
