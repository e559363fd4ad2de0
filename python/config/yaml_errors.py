"""Errors of YAML's syntax, in words that say what to do."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["explain"]

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


def explain(error: yaml.reader.ReaderError | yaml.MarkedYAMLError, text: str) -> str:
    """Say what is wrong and what to do, beginning with the line, to follow "analysis.yaml:".

    Parameters
    ----------
    error
        What PyYAML raised while it read `text`.
    text
        The whole document.
    """
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
