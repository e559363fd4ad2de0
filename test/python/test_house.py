"""The house: folders stand in one order and import only from those before them, files import in no circle, and none grows unseen.

`python test/python/test_house.py` prints the table of lines as it is.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import operator
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from MLTools.NanoML.extending import Extension, loaded

pytestmark = pytest.mark.exhaustive("the rules of the repository")

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "python": "MLTools.NanoML",
    "data_processing": "data_processing",
    "ML_processing": "ML_processing",
    "statistical_analysis": "statistical_analysis",
    "extensions": "MLTools.NanoML.extensions",
}

GROUND = (
    "__init__", "errors", "atomic", "loading", "observing", "installation", "dependencies", "networks", "stages", "parallel",
    "extending", "terminal", "schema",
)  # fmt: skip
"""What knows nothing of physics: these, loose modules of python/ and folders, are on one level."""

ORDER = {
    "python": [
        GROUND,
        *("grid", "rootio", "nanoaod", "contracts", "corrections", "selection", "model", "nanoaodtools"),
        ("fwlite", "nano_cff", "score", "trilepton"),
        *("config", "report", "workflow", "batch", "inspection", "doctor", "commands", "cli"),
    ],
    "data_processing": [
        *("datasets", "skim", "convert", "shuffle", "merge", "score", "histograms"),
        *("stages", "check", "crab"),
    ],
    "ML_processing": [
        ("metrics", "requests"),
        *("events", "models", "networks", "training", "evaluation", "export", "stages", "tuning"),
    ],
    "statistical_analysis": [
        ("samples", "results", "unbinned"),
        *("model", "workspace", "likelihood", "maximum", "asymptotic", "toys", "inference"),
        *("report", "fit", "draw", "stages"),
    ],
}  # fmt: skip
"""From the ground up, what imports only from itself and from what stands before it; a module `stage` belongs to the stages."""

EXTENSIONS: dict[str, Extension] = {
    it.parent.name: importlib.import_module(f"MLTools.NanoML.extensions.{it.parent.name}").EXTENSION
    for it in (ROOT / "extensions").glob("*/__init__.py")
}
"""Those of the checkout, whether or not they are hidden: each stands above the whole core."""

OF_CORE = {
    it
    for path in (ROOT / "python" / "config").glob("*.py")
    for it in re.findall(r"^    (\w+): .*setting", path.read_text(), re.M)
}
"""The names of settings of the core, which those of an extension may have in another section."""

# modules in a folder, but for those that have a file for each section of the report, for each correction, and for each network
MOST_LOOSE = 14
A_FILE_EACH = (
    Path("ML_processing", "evaluation", "sections"),
    Path("python", "corrections"),
    Path("ML_processing", "networks"),
)

MOST = {"core": (68820, 314), "extensions": (10119, 61), "tests": (62748, 288)}
"""The brake: the most lines and modules, `__init__` included.

Whoever needs more looks first for what can go, and then changes the number in a commit that says what it buys.
"""


class Import(NamedTuple):
    """An import of one of our modules by another: also a late one, and one for type checkers."""

    file: str
    line: int
    name: str
    imported: str


def modules() -> dict[str, Path]:
    """All modules by their names."""
    found = {}
    for part, package in PARTS.items():
        for path in sorted((ROOT / part).rglob("*.py")):
            place = path.relative_to(ROOT / part).with_suffix("").parts
            if place[0] != "templates" and "test" not in place[:-1]:
                found[".".join((package, *place)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


@cache
def imports() -> list[Import]:
    """The imports of our modules, read when a test asks: each process of a run collects this file."""
    found = []
    for name, path in MODULES.items():
        file = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom) and not node.level:  # of a name in a package, from the package
                inner = (f"{node.module}.{each}" for each in names)
                names = [each if each in MODULES else str(node.module) for each in inner]
            found += [Import(file, node.lineno, name, each) for each in names if each in MODULES]
    return found


def place_of(module: str) -> tuple[str, str]:
    """The part with a module, and its folder there, or the module itself if it is loose."""
    file = MODULES[module].relative_to(ROOT).with_suffix("")
    part, folder = file.parts[:2]
    return part, "stages" if file.name in ("stage", "stages") and part != "python" else folder


def test_every_folder_has_its_place_in_the_order() -> None:
    for part, order in {**ORDER, "extensions": [tuple(EXTENSIONS)]}.items():
        named = [name for level in order for name in (level if isinstance(level, tuple) else (level,))]
        there = {place_of(name)[1] for name in MODULES if place_of(name)[0] == part} - {"__init__"}
        assert len(set(named)) == len(named)
        assert there <= set(named), f"{part}: ORDER does not name {sorted(there - set(named))}"


def test_the_picture_of_the_manual_has_the_order() -> None:
    shown = re.findall(r'class="t"[^>]*>([\w]+)', (ROOT / "doc" / "images" / "folders.svg").read_text())
    levels = [level if isinstance(level, tuple) else (level,) for level in reversed(ORDER["python"])]
    assert len(shown) == len(levels)
    assert all(name in level for name, level in zip(shown, levels)), shown


def test_no_import_runs_back_up() -> None:
    level = {
        (part, name): number
        for part, order in ORDER.items()
        for number, names in enumerate(order)
        for name in (names if isinstance(names, tuple) else (names,))
    }
    wrong = []
    for each in imports():
        here, there = place_of(each.name), place_of(each.imported)
        is_part_of_another = here[0] not in (there[0], "extensions") and there[0] != "python"
        if here[0] == there[0] == "extensions" and here[1] != there[1]:
            is_part_of_another = there[1] not in EXTENSIONS[here[1]].needs
        is_backward = here[0] == there[0] and level.get(there, -1) > level.get(here, 99)
        if is_backward or is_part_of_another:
            wrong.append(f"{each.file}:{each.line}: imports {each.imported}, which stands above it")
    assert not wrong, "\n".join(wrong)


def named_by(name: str, extension: Extension) -> re.Pattern[str]:
    """What a text has that names an extension: its module, a command, a setting, a stage, or an entry of a registry."""
    keys = [key for kind, found in extension.kinds.items() for key in found if kind != "commands"]
    for section, place in extension.fields.items():
        fields = dataclasses.fields(loaded(f"{PARTS['extensions']}.{name}.{place}"))
        keys += [f"{section}.{it.name}".strip(".") for it in fields]
        keys += [it.name for it in fields if it.name not in OF_CORE]
    alone = "|".join(map(re.escape, [*keys, *(it.name for it in extension.stages)])) or "(?!)"
    commands = "|".join(map(re.escape, extension.kinds.get("commands", {}))) or "(?!)"
    return re.compile(rf"extensions[./]{name}\b|nanoml ({commands})\b|^({alone}|{commands})$|[\w]\.({alone})$")


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_core_does_not_know_its_name(name: str) -> None:
    names, found = named_by(name, EXTENSIONS[name]), []
    for module, path in MODULES.items():
        if module.startswith(PARTS["extensions"]):
            continue
        tree = ast.parse(path.read_text())
        said = {id(it.value) for it in ast.walk(tree) if isinstance(it, ast.Expr)}  # docstrings
        texts = (it for it in ast.walk(tree) if isinstance(it, ast.Constant) and id(it) not in said)
        found += [f"{module}:{it.lineno}: {it.value}" for it in texts if names.search(str(it.value))]
    assert not found


def circles() -> list[set[str]]:
    """The circles of files, the largest ones: of each file, those that it reaches and that reach it."""
    behind: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in imports():
        behind[each.name].add(each.imported)

    def reached(name: str) -> set[str]:
        found: set[str] = set()
        waiting = list(behind[name])
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting += behind[other]
        return found

    all_reached = {name: reached(name) for name in MODULES}
    found: list[set[str]] = []
    for name, others in all_reached.items():
        circle = {other for other in others if name in all_reached[other]}
        if name in others and circle not in found:
            found.append(circle)
    return found


def test_no_files_import_in_a_circle() -> None:
    within = (it for circle in circles() for it in imports() if {it.name, it.imported} <= circle)
    shown = [f"{it.file}:{it.line}: imports {it.imported}" for it in within]
    assert not shown, "in a circle:\n" + "\n".join(shown)


def test_no_folder_has_too_many_loose_modules() -> None:
    modules = (path for path in MODULES.values() if path.name != "__init__.py")
    folders = Counter(path.parent.relative_to(ROOT) for path in modules)
    assert not {str(it): number for it, number in folders.items() if number > MOST_LOOSE and it not in A_FILE_EACH}


def test_a_module_has_100_to_400_lines() -> None:
    """All but one in twenty, of the core; what has a file each may be short."""
    others = [it for it in MODULES.values() if it.name != "__init__.py" and ROOT / "extensions" not in it.parents]
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in others}
    odd = [it for it, found in lines.items() if found > 400 or (found < 100 and it.parent not in A_FILE_EACH)]
    assert 20 * len(odd) <= len(lines), f"of {len(lines)} modules: {', '.join(map(str, odd))}"


def test_a_section_of_the_report_has_100_lines_at_most() -> None:
    trees = (ast.parse(path.read_text()) for path in (ROOT / A_FILE_EACH[0]).glob("*.py"))
    classes = (it for tree in trees for it in tree.body if isinstance(it, ast.ClassDef) and it.decorator_list)
    sections = [it for it in classes if ast.unparse(it.decorator_list[0]).startswith("section(")]
    assert not [it.name for it in sections if (it.end_lineno or 0) - it.lineno >= 100]


def measured() -> dict[str, tuple[int, int]]:
    """Lines and modules of the core, of all extensions together, and of the tests, theirs included."""
    found = {}
    every = {path for part in (*PARTS, "test") for path in (ROOT / part).rglob("*.py")} | {ROOT / "conftest.py"}
    tests = {path for path in every if "test" in path.parent.relative_to(ROOT).parts or path.name == "conftest.py"}
    extensions = {path for path in every - tests if ROOT / "extensions" in path.parents}
    for name, paths in (("core", every - tests - extensions), ("extensions", extensions), ("tests", tests)):
        found[name] = sum(len(path.read_text().splitlines()) for path in paths), len(paths)
    return found


RUNS_CODE = re.compile(
    r"c?[pP]ickle|_pickle|dill|cloudpickle|marshal|shelve|joblib|jsonpickle|code|runpy|torch\.(jit|package|hub)|numpy\.lib\.format"
)
"""Modules that run what they read."""

MAY_RUN = {
    "data_processing/skim/nanoaodtools_engine.py": {"pickle"},  # the job, by a pipe to a process of our own
    "ML_processing/training/directory.py": {"pickle"},  # the name of its error alone
    "extensions/dask/system.py": {"cloudpickle"},  # our own function, to workers
    "extensions/publish/reproduce.py": {"eval"},  # of cuts and quantities, in which nothing has attributes
    "python/loading.py": {"exec_module"},  # the user's code
    "scripts/nanoml": {"exec_module"},  # NanoML
}
"""Where the product may use what runs code, and why."""


def _runs(call: ast.Call) -> str:
    """What runs code in a call; empty if nothing does."""
    name, given = ast.unparse(call.func), {it.arg: ast.unparse(it.value) for it in call.keywords}
    last = name.rpartition(".")[2]
    if name in ("eval", "exec", "compile", "__import__") or last == "exec_module":
        return last
    value = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
    if name.endswith("import_module") and RUNS_CODE.fullmatch(str(value)):
        return str(value)
    is_unsafe = (
        (name == "torch.load" and given.get("weights_only") != "True")
        or given.get("allow_pickle", "False") != "False"
        or (name.startswith("yaml.") and last in ("load", "load_all", "unsafe_load", "full_load", "add_constructor"))
    )
    return name if is_unsafe else ""


def test_what_is_read_runs_no_code() -> None:
    found: dict[str, set[str]] = {}
    modules = (it for part in (*PARTS, "crab", "examples") for it in (ROOT / part).rglob("*.py"))
    for path in (ROOT / "scripts" / "nanoml", *(it for it in modules if "test" not in it.relative_to(ROOT).parts)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [it.name for it in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            used = {name for name in names if RUNS_CODE.fullmatch(name)}
            used |= {_runs(node)} - {""} if isinstance(node, ast.Call) else set()
            if used:
                found.setdefault(path.relative_to(ROOT).as_posix(), set()).update(used)
    assert found == MAY_RUN


def test_nothing_grows() -> None:
    for name, found in measured().items():
        assert all(map(operator.le, found, MOST[name])), f"{name}: {found} lines and modules: what can go?"


if __name__ == "__main__":
    sys.stdout.write(f"MOST = {measured()}\n")
