"""The options of `nanoml fit` about cards."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from MLTools.NanoML.commands.options import option

_ABOUT = "Fit the signal strength of an analysis, of a workspace of pyhf (JSON), or of a datacard of Combine."
_MORE = "A card is translated into a workspace first; differences between the two are listed."

mass = option("--mass", "The value of $MASS in a card.", "MASS", default="")


def translating(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Give the function of `nanoml fit` the option that only translates, and help that speaks of cards."""
    _, _, others = inspect.cleandoc(fit.__doc__ or "").partition("\n")
    fit.__doc__ = f"{_ABOUT}\n{others}\n{_MORE}"
    fit.__dict__["examples"] = ("nanoml fit datacard.txt --translate -o workspaces",)
    text = "Only translate a card into a workspace, or a workspace into a card, and list what differs."
    return option("--translate, instead", text, is_flag=True, callback=_chosen)(fit)


def _chosen(_: click.Context, __: click.Parameter, is_given: bool) -> Callable[..., str] | None:
    return _translate if is_given else None


def _translate(source: Path, directory: Path, mass: str) -> str:
    from MLTools.NanoML.extensions.cards.translation import translate

    return f"{translate(source, directory, mass)[0]}: written."
