"""What one can do next in a directory."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from MLTools.NanoML.batch.submission import JOBS
from MLTools.NanoML.config.analysis import Config, load
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.workflow.stages import Layout

__all__ = ["Advice", "advice"]

_ANALYSIS = re.compile(r"^(datasets|skim|convert|train):", re.M)
_DATA = ("*.root", "*.h5", "*.onnx")
_MOST = 3
_LARGEST = 1_000_000  # bytes of a YAML file that is looked into


@dataclass(frozen=True)
class Advice:
    """What may come next, about one thing.

    Attributes
    ----------
    about
        The thing: an analysis, a file.
    steps
        Commands, or files to look at, each with what it is for.
    """

    about: str
    steps: tuple[tuple[str, str], ...]


def advice(directory: Path) -> list[Advice]:
    """What one can do next here.

    Parameters
    ----------
    directory
        The current directory; commands are written as they are typed there.
    """
    analyses = _analyses(directory)
    found = [_of_analysis(path) for path in analyses[:_MOST]]
    if len(analyses) > _MOST:
        found.append(Advice(f"and {len(analyses) - _MOST} more analyses: {_names(analyses[_MOST:])}", ()))
    if not analyses:
        found += [_beginning(directory)]
    data = [path for pattern in _DATA for path in sorted(directory.glob(pattern))]
    if data:
        found.append(
            Advice(f"files: {_names(data)}", ((f"nanoml inspect {_quoted(data[0])}", "what is in it"),))
        )
    found.append(
        Advice(
            "anywhere",
            (
                ("nanoml doctor", "whether this machine has what NanoML needs"),
                ("nanoml --help", "all commands; nanoml COMMAND --help has an example"),
            ),
        )
    )
    return found


def _analyses(directory: Path) -> list[Path]:
    """YAML files that look like analyses; also those of the example, at the top of a checkout."""
    found = []
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        try:
            text = path.read_text(encoding="utf-8") if path.stat().st_size < _LARGEST else ""
        except (OSError, UnicodeDecodeError):
            continue
        if _ANALYSIS.search(text):
            found.append(path)
    return found


def _beginning(directory: Path) -> Advice:
    steps = [("nanoml init myanalysis", "a new analysis, which runs as it stands, on sample data")]
    example = directory / "examples" / "trilepton.yaml"
    if example.is_file():
        steps.append(("nanoml run examples/trilepton.yaml", "the worked example, whole"))
    return Advice("no analysis here", tuple(steps))


def _of_analysis(path: Path) -> Advice:
    name = _quoted(path)
    try:
        config = load(path)
    except ConfigError:
        return Advice(f"{path.name}: has mistakes", ((f"nanoml config check {name}", "says which"),))
    done = list(_results(config, path.parent))
    about = (
        f"{path.name}: results in {_shortest(Layout.of(config).workdir, path.parent)}" if done else path.name
    )
    steps = [
        (f"nanoml run {name} --dry-run", "what is out of date, and why" if done else "what would be done"),
        (f"nanoml run {name}", "do it"),
    ]
    if any((path.parent / JOBS).glob(f"{path.stem}-*")):
        steps.append((f"nanoml status {name}", "how its jobs go"))
    if not done:
        steps.insert(0, (f"nanoml config check {name}", "whether all that it names is there"))
    return Advice(about, (*steps, *done))


def _results(config: Config, base: Path) -> Iterable[tuple[str, str]]:
    layout = Layout.of(config)
    report = layout.training / "report.html"
    if report.is_file():
        yield _shortest(report, base), "the report: open it in a browser"
    elif any(layout.training.glob("network_*.pt")):
        yield f"nanoml evaluate {_quoted(Path(config.document.name))}", "the report of the training"
    if layout.model.is_file():
        model = _shortest(layout.model, base)
        yield f"nanoml inspect {model}", "what the model reads and gives"
        yield f"nanoml verify {model}", "whether it computes what it says"
    for directory, what in ((layout.workdir / "scores", "scores"), (layout.workdir / "skims", "a skim")):
        first = next(iter(sorted(directory.glob("*/*.root"))), None)
        if first is not None:
            yield f"nanoml inspect {_shortest(first, base)}", f"what is in {what}"


def _shortest(path: Path, base: Path) -> str:
    try:
        return shlex.quote(str(path.relative_to(base.resolve())))
    except ValueError:
        return shlex.quote(str(path))


def _quoted(path: Path) -> str:
    return shlex.quote(path.name)


def _names(paths: list[Path]) -> str:
    more = f" and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    return ", ".join(path.name for path in paths[:_MOST]) + more
