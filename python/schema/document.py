"""A YAML document: plain data, and the line of the file on which each value stands.

Only the plain data of YAML is read; no tag can build a Python object. Unquoted words mean what YAML 1.2 says, as in
editors: `no`, `off`, 12:30 and 2018-01-01 are text, 1e-3 is a number. As an extra, 200_000 is a number too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

import yaml

from MLTools.NanoML.errors import ConfigError

Key = Union[str, int]
Keys = tuple[Key, ...]
"""The path to a value: keys of mappings, positions in lists (from 0)."""
Problem = tuple[Keys, str]
"""Which value is wrong, and what is wrong with it."""

_LARGEST_FILE = 1 << 24
_MOST_VALUES = 200_000
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "merge": re.compile(r"<<\Z"),
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_ADVICE = (
    ("duplicate anchor", "This anchor's name is taken: choose another"),
    ("alias", 'Text that begins with "*" must be in quotes'),
    ("anchor", 'Text that begins with "&" must be in quotes'),
    ("tag", 'Text that begins with "!" must be in quotes'),
    ("directive", 'Text that begins with "%" must be in quotes'),
    ("cannot start any token", "Put this text in quotes"),
    ("mapping values are not allowed", 'Check the indentation; text that contains ": " must be in quotes'),
    ("could not find expected ':'", 'Write "key: value", with a space after the colon'),
    ("flow sequence", 'Is a "]" or a comma missing?'),
    ("flow mapping", 'Is a "}" or a comma missing?'),
    ("quoted scalar", "Is a closing quote missing?"),
    ("block", "Check the indentation"),
    ("single document", 'One file holds one configuration: remove the "---" between the two'),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes; its plain scalars are those of YAML 1.2."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)


@dataclass(frozen=True)
class Document:
    """The content of a YAML file, with the lines."""

    name: str
    """The file, as the user wrote it."""
    data: Any = field(default_factory=dict)
    lines: Mapping[Keys, int] = field(default_factory=dict)
    """The line of each value: that of its key in a mapping."""
    problems: tuple[Problem, ...] = ()
    """Mistakes in the YAML itself that did not prevent reading it."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Document:
        """Read a file.

        Raises ConfigError if the file cannot be read, or is empty or no YAML.
        """
        name = os.fspath(path)
        return cls.parse(_text(name), name)

    @classmethod
    def parse(cls, text: str, name: str) -> Document:
        """Parse `text`; errors call it `name`.

        Raises ConfigError if the text is empty or no YAML.
        """
        try:
            root = yaml.compose(text, Loader=_Loader)
            if root is None:
                raise ConfigError(f"{name}: the file is empty.")
            reader = _NodeReader(name)
            data = reader.value(root, ())
        except (yaml.reader.ReaderError, yaml.MarkedYAMLError) as error:
            raise ConfigError(f"{name}:{_stop(_explain(error, text))}") from None
        except RecursionError:
            raise ConfigError(f"{name}: lists and mappings are nested too deeply.") from None
        except (ValueError, OverflowError):
            # PyYAML passes an escape such as "\UFFFFFFFF" to chr() unchecked
            raise ConfigError(f'{name}: a "\\U" escape is not a character. Remove it.') from None
        return cls(name, data, reader.lines, tuple(reader.problems))

    def where(self, *keys: Key) -> str:
        """The place of a value, as in "analysis.yaml:14", or of what should contain it if it is not in the file."""
        line = self._line(keys)
        return f"{self.name}:{line}" if line else self.name

    def error(self, problems: Iterable[Problem]) -> ConfigError:
        """Make one error of all `problems`, a line each, in the order of the file."""
        ordered = sorted(
            ((self._line(keys), dotted(keys), keys, message) for keys, message in problems),
            key=lambda problem: (problem[0], problem[1], problem[3]),
        )
        lines = [": ".join(filter(None, (self.where(*keys), name, _stop(text)))) for _, name, keys, text in ordered]
        return ConfigError("\n".join(dict.fromkeys(lines)))

    def _line(self, keys: Keys) -> int:
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 0)


def dotted(keys: Iterable[Key]) -> str:
    """The path to a value as text, as in "convert.features[3]"."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


class _NodeReader:
    """Turns nodes into plain data, and notes lines and problems."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Keys, int] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, keys: Keys) -> Any:
        self.lines.setdefault(keys, _line(node))
        self._count_one()
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, keys)
        if id(node) in self._open:
            raise ConfigError(f"{self.name}:{_line(node)}: an alias refers to the value that contains it.")
        if node.tag != _TAG + ("map" if isinstance(node, yaml.MappingNode) else "seq"):
            self.problems.append((keys, f"{node.tag} is a tag that is not allowed here. Remove it"))
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            result: Any = self._mapping(node, keys)
        else:
            result = [self.value(item, (*keys, position)) for position, item in enumerate(node.value)]
        self._open.discard(id(node))
        return result

    def _count_one(self) -> None:
        self._count += 1
        # aliases of aliases of aliases can describe more than fits into memory
        if self._count > _MOST_VALUES:
            raise ConfigError(f"{self.name}: more than {_MOST_VALUES} values once all aliases are followed.")

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in self._entries(node, keys).values():
            way = (*keys, key.value)
            self.lines[way] = _line(key)
            self._check_text(key.value, way)
            result[key.value] = self.value(value, way)
        return result

    def _entries(self, node: yaml.MappingNode, keys: Keys) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._complain((*keys, "?"), key, "a list or mapping cannot be a key")
            elif key.tag == _TAG + "merge":
                merged = {**self._merged(value, keys), **merged}
            elif key.value in own:
                self.problems.append(((*keys, key.value), f"duplicate key, again on line {_line(key)}. Remove one"))
            else:
                own[key.value] = (key, value)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, keys: Keys) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        result: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for mapping in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(mapping, yaml.MappingNode):
                self._complain((*keys, "<<"), node, 'takes the alias of a mapping, as in "<<: *name"')
                continue
            self._count_one()
            result = {**self._entries(mapping, keys), **result}
        return result

    def _scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        kind = node.tag[len(_TAG) :] if node.tag.startswith(_TAG) else node.tag
        text = node.value
        if kind in ("str", "merge"):
            self._check_text(text, keys)
            return text
        if kind not in _SCALARS or not _SCALARS[kind].match(text):
            self.problems.append(
                (keys, f"{node.tag} is a tag that is not allowed here. Remove it, or put the text in quotes")
            )
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            return float(re.sub(r"\.(?=[in])", "", text.lower()).replace("_", ""))
        base = {"0x": 16, "0o": 8}.get(text[:2], 10)
        if len(text) > 30 or abs(number := int(text.replace("_", ""), base)) >= 1 << 63:
            self.problems.append((keys, "this number is too large"))
            return text
        return number

    def _complain(self, keys: Keys, node: yaml.Node, message: str) -> None:
        """Note a problem with something that does not become part of the data."""
        self.lines[keys] = _line(node)
        self.problems.append((keys, message))

    def _check_text(self, text: str, keys: Keys) -> None:
        bad = next((character for character in text if not character.isprintable()), None)
        if bad in ("\n", "\r"):
            self.problems.append((keys, 'expected one line of text. For a list, begin each item with "- "'))
        elif bad is not None:
            self.problems.append((keys, f"contains the invisible character U+{ord(bad):04X}. Remove it"))


def _stop(message: str) -> str:
    return message if message.endswith((".", "?", "!")) else f"{message}."


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _text(name: str) -> str:
    try:
        with open(name, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise ConfigError(f"{name}: is a directory. Give the YAML file in it.") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {(error.strerror or str(error)).lower()}.") from None
    except ValueError as error:
        raise ConfigError(f"{name!r}: is not a file name: {error}.") from None
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{name}: is larger than {_LARGEST_FILE >> 20} MiB, so it is probably not a configuration.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text. Is it a YAML file? If so, save it as UTF-8.") from None


def _explain(error: yaml.reader.ReaderError | yaml.MarkedYAMLError, text: str) -> str:
    """Say what is wrong and what to do, beginning with the line, to follow "analysis.yaml:"."""
    if isinstance(error, yaml.reader.ReaderError):
        line = len(_LINE_BREAK.findall(text, 0, error.position)) + 1
        return f"{line}: contains the invisible character U+{ord(text[error.position]):04X}. Remove it"
    problem = str(error.problem).removeprefix("but ")
    # PyYAML finds a missing colon only on the lines below; what lacks it is the context.
    late = "could not find expected ':'" in problem or error.problem_mark is None
    mark: Any = error.context_mark if late else error.problem_mark
    lines = _LINE_BREAK.split(text)
    line, column = mark.line + 1, mark.column + 1
    if re.match(r" *\t", lines[mark.line]):
        return f"{line}: YAML does not allow tabs for indentation, use spaces"
    if lines[mark.line][mark.column : mark.column + 1] == "\t":
        return f"{line}: YAML does not allow a tab here, use spaces"
    if mark.line and re.match(r" *\w+:[^\s/]", lines[mark.line - 1]):
        return f'{line - 1}: write "key: value", with a space after the colon'
    advice = next((advice for sign, advice in _ADVICE if sign in f"{problem} {error.context}"), None)
    return f"{line}:{column}: not valid YAML: {problem}" + (f". {advice}" if advice else "")
