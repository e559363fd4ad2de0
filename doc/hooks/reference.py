"""A hook of MkDocs: the reference pages, made of the code."""

from __future__ import annotations

import html
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]

_MODULES = {
    "selection": "Selections",
    "selection.tryout": "Trying a selection",
    "corrections": "Using corrections",
    "corrections.weights": "Weights of events",
    "corrections.triggers": "Triggers of several leptons",
    "corrections.jets": "Jets and missing momentum",
    "nanoaodtools": "A selection as a module of nanoAOD-tools",
    "score": "A model as a module of nanoAOD-tools",
    "nano_cff": "A model in cmsRun",
    "fwlite": "A model in FWLite",
    "model": "A model in plain Python",
    "contracts.uhi": "Histograms",
    "nanoaod.folds": "Folds",
    "rootio.rootfile": "ROOT files",
    "rootio.branches": "Branches of ROOT files",
    "config.load": "The configuration",
    "config.analysis": "Its sections",
    "errors": "Errors",
}
_SOME = {
    "config.load": ("load", "schema"),
    "config.analysis": ("Config",),
    "rootio.branches": ("Branch",),
    "rootio.rootfile": ("RootFile",),
    "nanoaod.folds": ("fold_of", "part_of"),
    "model": ("Model", "Description", "Input", "ObjectInput", "Parameter", "Discriminant", "Head", "Reference"),
    "errors": ("NanoMLError", "ConfigError", "UnreadableError"),
}  # of modules of which not everything is for users
_METHODS = {
    "Cutflow": ("cut", "weigh", "count_efficiency"),
    "Events": ("flat", "replaced", "before"),
    "Flat": ("keep", "pairs", "smallest", "largest", "at", "with_columns", "joined", "chosen"),
    "Selection": ("select", "prepare", "shift", "file"),
    "DatasetInfo": (),
    "Selected": ("passed",),
    "Leptons": ("named",),
    "Weight": (),
    "Correction": ("of",),
    "Config": ("path", "era_of", "luminosity_of", "cross_section_of"),
    "RootFile": ("read", "branch", "close"),
    "Model": ("scores",),
    "Description": (),
    "Input": (),
    "PostprocModule": (),
}
"""The methods for users, of classes that also have others for NanoML itself."""
_ADDED = {
    "MLTools.NanoML.extending": ("Extension", "Declaration", "settings_of"),
    "MLTools.NanoML.commands.options": ("command", "option", "flag"),
    "MLTools.NanoML.corrections.entries": ("Entry",),
    "MLTools.NanoML.batch.system": ("System", "Poll", "QueueState"),
    "ML_processing.events.inputs": ("Inputs", "Shape"),
    "ML_processing.models.network": ("network",),
    "ML_processing.models.hooks": ("Hooks", "Boosted"),
    "ML_processing.evaluation.content": ("section", "Part"),
    "ML_processing.evaluation.measurement": ("Measurement",),
}
"""What code that is added to NanoML begins with: see How to contribute."""
_GIVEN = ("Config", "Measurement")
"""Classes of which users get an object, and make none."""
_HEADERS = ("Model", "Column", "Scorer", "Metadata", "Objects", "Error")


def on_files(files: Any, config: Any) -> Any:
    """Add the reference pages."""
    pages = {
        "commands": commands(),
        "configuration": configuration(),
        "python": python_interface(),
        "cpp": cpp_interface(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def commands() -> str:
    """Make the page of the command line."""
    from MLTools.NanoML.cli import nanoml

    lines = [
        "# Command line",
        "",
        "This is what `nanoml COMMAND --help` prints. `nanoml` alone suggests what to do next in the current directory.",
        "",
        "Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 130 interrupted by Ctrl-C. Progress goes to standard error, "
        "results to standard output.",
        "",
    ]
    context = click.Context(nanoml, info_name="nanoml")
    for name in nanoml.list_commands(context):
        lines += _command(nanoml.get_command(context, name), name, context, 2)
    return "\n".join(lines)


def _command(command: Any, name: str, parent: click.Context, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"{'#' * level} {context.command_path}"
    yield ""
    yield _paragraphs(command.help or "")
    if isinstance(command, click.Group):
        yield ""
        for each in command.list_commands(context):
            yield from _command(command.get_command(context, each), each, context, level + 1)
        return
    yield f"\n```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    options = [param for param in command.params if isinstance(param, click.Option)]
    rows = [record for record in (option.get_help_record(context) for option in options) if record]
    if rows:
        yield "| option | meaning |\n|---|---|"
        yield from (_row(names, text) for names, text in rows)
        yield ""
    example = (command.epilog or "").partition("Example:\n")[2]
    if example:
        yield f"```text\n{inspect.cleandoc(example)}\n```\n"


def _row(names: str, text: str) -> str:
    """The row of an option; many choices stand behind its text, where lines break."""
    many = re.fullmatch(r"(\S+) \[([\w|]{40,})\]", names)
    if many:
        names, text = many[1], f"{text} One of {', '.join(f'`{each}`' for each in many[2].split('|'))}."
    return f"| {_code(names)} | {_cell(text)} |"


def _paragraphs(text: str) -> str:
    """The help of click as Markdown: a paragraph after a line with a backspace keeps its lines."""
    found = []
    for part in inspect.cleandoc(text).split("\n\n"):
        kept = part.startswith("\b\n")
        found.append(f"```text\n{part[2:]}\n```" if kept else part)
    return "\n\n".join(found)


def _cell(text: str) -> str:
    """Text in a cell of a table, where no sign means anything but itself, and code stays code."""
    parts = re.split(r"(`[^`]+`)", html.escape(text.replace("\n", " "), quote=False).replace("|", "&#124;"))
    return "".join(part if part.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", part) for part in parts)


def _code(text: str) -> str:
    """Code in a cell of a table, where no sign means anything but itself."""
    escaped = re.sub(r"[|*_]", lambda sign: f"&#{ord(sign[0])};", html.escape(text, quote=False))
    return f"<code>{escaped}</code>"


def configuration() -> str:
    """Make the page of the YAML file."""
    from MLTools.NanoML.config.load import schema

    whole = schema()
    lines = [
        "# Configuration",
        "",
        "All settings of the YAML file of an analysis. A list with one entry needs no brackets. Paths are relative to the file. Keys "
        "that begin with `x-` are ignored, so anchors can stand there. `nanoml config check FILE` checks a file; `nanoml config schema` "
        "prints a JSON Schema, with which editors complete and explain settings.",
        "",
    ]
    return "\n".join([*lines, *_section(whole, "", 1)])


def _section(schema: dict[str, Any], path: str, level: int) -> Iterator[str]:
    inner = []
    if path:
        yield f"{'#' * min(level, 4)} {path}\n\n{schema.get('description', '')}\n"
    yield '<div class="settings" markdown>\n\n| setting | type | default | meaning |\n|---|---|---|---|'
    for name, entry in schema["properties"].items():
        where = f"{path}.{name}" if path else name
        nested = _nested(entry, where)
        if nested:
            inner.append(nested)
        yield f"| `{name}` | {_type(entry)} | {_default(entry, schema, name)} | {_meaning(entry)} |"
    yield "\n</div>\n"
    for where, entry in inner:
        yield from _section(entry, where, level + 1)


def _nested(entry: dict[str, Any], where: str) -> tuple[str, dict[str, Any]] | None:
    if "properties" in entry:
        return where, entry
    each = entry.get("additionalProperties")
    if isinstance(each, dict) and "properties" in each:
        return f"{where}.NAME", each
    return None


def _type(entry: dict[str, Any]) -> str:
    if "enum" in entry:
        return "one of " + ", ".join(f"`{value}`" for value in entry["enum"] if value is not None)
    types = entry.get("type", "anything")
    types = [types] if isinstance(types, str) else types
    names = {
        "object": "section",
        "array": "list",
        "string": "text",
        "integer": "whole number",
        "boolean": "true, false",
    }
    found = [names.get(kind, kind) for kind in types if kind != "null"]
    return " or ".join(dict.fromkeys(found))


def _default(entry: dict[str, Any], schema: dict[str, Any], name: str) -> str:
    if name in schema.get("required", ()):
        return "must be given"
    value = entry.get("default")
    return "" if value is None or value in ({}, [], "") or "properties" in entry else _code(_yaml(value))


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value)


def _meaning(entry: dict[str, Any]) -> str:
    text = _cell(entry.get("description", "").partition("\n\n")[0])
    limits = [
        f"{word} {entry[key]}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
        )
        if key in entry
    ]
    return f"{text} ({', '.join(limits)})" if limits else text


def python_interface() -> str:
    """Make the page of the Python modules that users import."""
    lines = [
        "# Python",
        "",
        "The modules, classes and functions that your own code may import, in CMSSW as elsewhere. They keep their names and "
        "parameters until the next major version, as do those that [code added to NanoML](../contributing.md#adding-to-it) begins with: "
        + ", ".join(f"`{name}`" for names in _ADDED.values() for name in names)
        + ". So do the [YAML file](configuration.md), [HDF5](../hdf5.md) and [model](../model.md) files. All else may move.",
        "",
    ]
    shown: set[str] = set()
    for name, title in _MODULES.items():
        module = importlib.import_module(f"MLTools.NanoML.{name}")
        lines += [f"## {title}", "", f"`MLTools.NanoML.{name}`: {_first(module.__doc__)}", ""]
        for each in _SOME.get(name) or module.__all__:
            if each in shown:
                lines += [f"[`{each}`](#{each.lower()}): see above.", ""]
            else:
                lines += _member(each, getattr(module, each))
            shown.add(each)
    return "\n".join(lines)


def promised() -> Iterator[str]:
    """All that users may import, with its parameters, as doc/promised.txt has it."""
    modules = {f"MLTools.NanoML.{name}": _SOME.get(name) for name in _MODULES}
    for place, names in {**modules, **_ADDED}.items():
        module = importlib.import_module(place)
        for name in names or module.__all__:
            member = getattr(module, name)
            yield f"{place}.{name}{_signature(member) if callable(member) and name not in _GIVEN else ''}"
            for each, function in _methods(name, member):
                yield f"{place}.{name}.{each}{_signature(function)}"


def _methods(name: str, member: Any) -> Iterator[tuple[str, Any]]:
    """The methods of a class that are for users."""
    for each, value in vars(member).items() if inspect.isclass(member) else ():
        function = getattr(value, "__func__", value)
        is_shown = each in _METHODS[name] if name in _METHODS else not each.startswith("_")
        if is_shown and inspect.isfunction(function) and function.__doc__:
            yield each, function


def _member(name: str, member: Any) -> Iterator[str]:
    if not (inspect.isclass(member) or inspect.isfunction(member)):
        return
    yield f"### {name}\n"
    signature = textwrap.fill(f"{name}{_signature(member)}", 95, subsequent_indent="    ", break_long_words=False)
    yield f"```python\n{signature}\n```\n"
    yield _docstring(member.__doc__ or "")
    for each, function in _methods(name, member):
        yield f"\n**`{name}.{each}{_signature(function)}`**\n\n{_docstring(function.__doc__)}"
    yield ""


def _signature(member: Any) -> str:
    try:
        signature = inspect.signature(member)
    except (ValueError, TypeError):
        return ""
    parameters = [
        parameter.replace(annotation=parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


def _first(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0].replace("\n", " ")


def _docstring(text: str) -> str:
    """A docstring in numpy's style as Markdown: sections become lists."""
    lines = inspect.cleandoc(text).replace("::\n\n    ", ":\n\n    ").split("\n")
    found, section = [], ""
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if re.fullmatch(r"-{3,}", line):
            continue
        if line == "Examples":
            return "\n".join([*found, "\nExamples:\n\n```pycon", *lines[number + 2 :], "```\n"])
        if re.fullmatch(r"-{3,}", following):
            section = line
            found += [f"\n{line}:\n"]
        elif section in ("Parameters", "Attributes", "Raises") and line and not line.startswith(" "):
            found.append(f"- `{line}`:" if section != "Raises" or " " not in line else f"- {line}")
        elif section in ("Parameters", "Attributes", "Raises") and line:
            found.append("  " + line.strip())
        else:
            found.append(line)
    return "\n".join(found) + "\n"


def cpp_interface() -> str:
    """Make the page of the C++ headers, which carry their documentation."""
    lines = [
        "# C++",
        "",
        "The library `MLTools/NanoML` scores NanoAOD columns by a model file: [in CMSSW](../cmssw.md) says how to build and run it. "
        "These are its headers.",
        "",
    ]
    for name in _HEADERS:
        text = (ROOT / "interface" / f"{name}.h").read_text(encoding="utf-8")
        lines += [f"## {name}.h", "", f"```cpp\n{text}```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "doc" / "promised.txt").write_text("".join(f"{line}\n" for line in promised()), encoding="utf-8")
