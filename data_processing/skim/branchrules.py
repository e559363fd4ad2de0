"""Which branches are kept: rules such as `drop HLT_*` and `keep HLT_Mu50`, each one over those before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.nanoaod import versions

__all__ = ["Rule", "apply_rules", "parse_rule", "read_rules"]

_WORDS = {
    "keep": (True, False),
    "drop": (False, False),
    "keepmatch": (True, True),
    "dropmatch": (False, True),
}


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    keep
        Whether it keeps or drops what it matches.
    pattern
        A name or glob; of a regular expression, that which must match the whole name.
    is_regex
        Whether it is a regular expression.
    """

    keep: bool
    pattern: str
    is_regex: bool = False

    @property
    def is_name(self) -> bool:
        """Whether it is the name of one branch."""
        return not self.is_regex and not versions.is_glob(self.pattern)

    def matches(self, names: Sequence[str]) -> list[str]:
        """Those of the names that it matches."""
        if self.is_regex:
            return [name for name in names if re.fullmatch(self.pattern, name)]
        return versions.expand(self.pattern, names)


def parse_rule(text: str, where: str) -> Rule:
    """A rule in words: `keep PATTERN`, `drop PATTERN`, `keepmatch REGEX`, `dropmatch REGEX`, or a pattern to keep.

    Raises
    ------
    ConfigError
        It is none of these; `where` says where it stands.
    """
    words = text.split()
    if len(words) == 1 and words[0] not in _WORDS:
        return Rule(True, words[0])
    if len(words) != 2 or words[0] not in _WORDS:
        raise ConfigError(
            f"{where}: `{text}`: write keep, drop, keepmatch or dropmatch and one pattern, as in `drop HLT_*`."
        )
    keep, is_regex = _WORDS[words[0]]
    if is_regex:
        try:
            re.compile(words[1])
        except re.error as problem:
            raise ConfigError(f"{where}: `{text}`: no regular expression: {problem}.") from None
    return Rule(keep, words[1], is_regex)


def read_rules(path: Path) -> list[Rule]:
    """The rules of a branch selection file of nanoAOD-tools: one in each line, # begins a comment.

    Raises
    ------
    ConfigError
        There is no such file, or a line is no rule.
    """
    try:
        lines = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read as a branch selection file: {problem}.") from None
    rules, begun = [], ""
    for number, line in enumerate(lines, 1):
        begun += line.partition("#")[0].strip()
        if begun.endswith("\\"):  # it goes on in the next line
            begun = begun[:-1].strip() + " "
        elif begun:
            rules.append(parse_rule(begun, f"{path}:{number}"))
            begun = ""
    return rules


def apply_rules(rules: Sequence[Rule], names: Iterable[str], start: Iterable[str] = ()) -> list[str]:
    """The names that are kept, in the order of `names`, where those in `start` are kept before the first rule."""
    names, kept = list(names), set(start)
    for rule in rules:
        if rule.keep:
            kept.update(rule.matches(names))
        else:
            kept.difference_update(rule.matches(names))
    return [name for name in names if name in kept]
