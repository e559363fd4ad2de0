"""The section `style`: how figures call and colour what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from MLTools.NanoML.schema.settings import setting


@dataclass(frozen=True)
class ProcessLook:
    """How figures show a process."""

    label: str = setting("", "Its name, with formulae in matplotlib's mathtext.", sparse=True, examples=["$W'(600)$"])
    color: str = setting(
        "",
        "Its colour, as matplotlib names it; by default one of those that CMS recommends.",
        sparse=True,
        examples=["#5790fc"],
    )


@dataclass(frozen=True)
class QuantityLook:
    """How figures show a quantity; by default by the title and the unit that its column has."""

    label: str = setting(
        "", "Its name, with formulae in matplotlib's mathtext.", sparse=True, examples=["$m_{\\ell\\ell}$"]
    )
    unit: Optional[str] = setting(None, "Its unit.", examples=["GeV"])


@dataclass(frozen=True)
class Look:
    """How figures look: the same processes and quantities have the same names and colours in all of them."""

    label: str = setting(
        "",
        'What figures say that they are; by default "Private work (CMS simulation)".',
        sparse=True,
        examples=["Private work (Delphes)", "Preliminary"],
    )
    cms: bool = setting(
        False,
        'Whether "CMS" stands before the label: for results that the collaboration approves. Figures without data say "Simulation", too.',
    )
    processes: dict[str, ProcessLook] = setting(
        dict,
        "Processes, by their classes. Figures stack those that are named here in this order, the first on top; all others by their size.",
        examples=['{signal: {label: "$W\'(600)$"}, WZ: {color: "#5790fc"}}'],
    )
    quantities: dict[str, QuantityLook] = setting(
        dict,
        "Columns, expressions of histograms, outputs of the network by their classes, and parameters, by their names.",
        examples=['{ZCand_mass: {label: "$m_{ll}$", unit: GeV}}'],
    )
