"""The section `fit`: histograms that are fitted together, and their uncertainties; and what can be wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Optional, Union

from MLTools.NanoML.schema.settings import BRANCH, REGION, setting

if TYPE_CHECKING:
    pass

UNCORRELATED = ("*hfstats*", "*lfstats*", "*uncorrelated*", "*_stat", "*_stat_*", "jer")
"""Nuisance parameters of each era alone, by the rules of the POGs: statistical ones, as of BTV's shapes and of efficiencies, and the
resolution of jets."""
ALL, EACH = "all", "each"
"""Whether all processes, regions or eras share a nuisance parameter, or each has its own."""
AUTO, NEVER = "auto", "never"
"""Whether toys give limits: where few events are expected, or never."""
TOYS = {"pattern": f"{AUTO}|{NEVER}|[1-9][0-9]{{3,}}", "form": f"{AUTO}, {NEVER}, or a number of at least 1000"}
_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
_PERCENTAGE = re.compile(rf"\s*{_NUMBER}\s*%\s*")
_TWO_PERCENTAGES = re.compile(rf"\s*([+-])\s*{_NUMBER}\s*%?\s*/?\s*([+-])\s*{_NUMBER}\s*%\s*")


@dataclass(frozen=True)
class LogNormal:
    """A log-normal uncertainty of a yield: what it is multiplied by at +1 and at -1 sigma."""

    up: float
    down: float

    def __mul__(self, other: LogNormal) -> LogNormal:
        """Both by one nuisance parameter."""
        return LogNormal(self.up * other.up, self.down * other.down)


@dataclass(frozen=True)
class Nuisance:
    """What a nuisance parameter is called in workspace and card, and what shares it."""

    name: Optional[str] = setting(
        None,
        "Its name, by default that of the weight, shift or uncertainty; * is what * stands for in the key. What follows is appended.",
        pattern=r"[A-Za-z_][A-Za-z0-9_]*\*?[A-Za-z0-9_]*",
        form="a name of letters, digits and _, with one * at most",
        examples=["CMS_scale_j", "QCDscale"],
    )
    processes: Any = setting(
        ALL,
        "all: one parameter moves all classes; each: every class has its own, as in QCDscale_WZ; groups by name: each has its own, as in "
        "pdf_qqbar, and what is in none shares the rest.",
        examples=["each", "{qqbar: [WZ, ZZ], gg: [tt]}"],
    )
    regions: Any = setting(ALL, "The same for regions.", examples=["each", "{SR: [SR_high, SR_low]}"])
    eras: Any = setting(
        None,
        "The same for eras; by default all, but each for what `uncorrelated` names.",
        examples=["each", "{Run2: [2016, 2017, 2018]}"],
    )


def own_part(sharing: Any, value: Optional[str]) -> Optional[str]:
    """What is appended to the name of a parameter for a process, region or era; None if all share it."""
    if value is None or sharing == ALL:
        return None
    if sharing == EACH:
        return value
    return next((group for group, values in sharing.items() if value in map(str, as_list(values))), None)


def as_list(values: Any) -> list[Any]:
    """A list of values; of one that is not in a list."""
    return values if isinstance(values, list) else [values]


@dataclass(frozen=True)
class Fit:
    """A fit of the strength of a signal to histograms in several regions."""

    channels: dict[str, str] = setting(
        ...,
        "The regions that are fitted, each with its histogram.",
        names=REGION,
        examples=["{SR: wprime, CR_ZZ: ZCand_mass}"],
    )
    signal: Optional[str] = setting(
        None, "The class whose strength is fitted; by default the one that the histograms call signal."
    )
    parameter: Optional[str] = setting(
        None,
        "A name in `datasets.NAME.parameters`, such as the mass of the signal: each of its values has its own fit, without the signals "
        "of the others. By default that of `train.parameter`.",
        **BRANCH,
    )
    free: list[str] = setting(
        list, "Classes that are normalised by the fit, in all channels together.", uniqueItems=True, examples=[["ZZ"]]
    )
    uncertainties: dict[str, Any] = setting(
        dict,
        "Log-normal uncertainties of the yields of classes, in per cent, or up and down. "
        "A name and a mapping of classes stand for one that they share.",
        examples=["{WZ: 5 %, fakes: +30 % -20 %, scale: {WZ: 3 %, ZZ: 4 %}}"],
    )
    uncorrelated: list[str] = setting(
        list(UNCORRELATED),
        "Nuisance parameters that each era has for itself, with * for any text; the others are shared by eras.",
        examples=[["jer", "*_stat*", "norm_fakes"]],
    )
    nuisances: dict[str, Nuisance] = setting(
        dict,
        "Names of nuisance parameters, and which processes, regions and eras share them, by the names of weights, shifts and "
        "uncertainties, with * for any text; the first that fits counts.",
        names={"pattern": r"[^*]*\*?[^*]*", "form": "a name, with one * at most"},
        examples=["{scale: {name: QCDscale, processes: each}, jes: {name: CMS_scale_j, eras: each}}"],
    )
    smooth: list[str] = setting(
        list,
        "Weights and shifts whose changes of histograms are smoothed, with * for any text.",
        uniqueItems=True,
        examples=[["jes*", "scale"]],
    )
    groups: dict[str, list[str]] = setting(
        dict,
        "Nuisance parameters whose part of the uncertainty of the signal strength is given together, with * for any text.",
        names=REGION,
        examples=["{theory: [scale, pdf*], experimental: [jes*, lumi*]}"],
    )
    toys: Union[str, int] = setting(
        AUTO,
        "Pseudo-experiments of each hypothesis that give limit and significance. By default there are 5000 where fewer than 10 background "
        "events are expected; elsewhere, or with never, asymptotic formulae give both.",
        **TOYS,
        examples=[20000],
    )

    def shared(self, nuisance: str) -> tuple[Nuisance, str]:
        """What shares a nuisance parameter, and its name without what tells processes, regions and eras apart."""
        eras = EACH if any(fnmatchcase(nuisance, it) for it in self.uncorrelated) else ALL
        for key, given in self.nuisances.items():
            found = re.fullmatch(re.escape(key).replace(r"\*", "(.*)"), nuisance)
            if found:
                name = (given.name or nuisance).replace("*", found[1] if found.groups() else "")
                return (given if given.eras is not None else replace(given, eras=eras)), name
        return Nuisance(eras=eras), nuisance

    @property
    def normalisations(self) -> dict[str, dict[str, LogNormal]]:
        """Uncertainties of the yields of processes, by nuisance parameter; that of one class alone is norm_CLASS."""
        return {
            name if isinstance(entry, Mapping) else norm(name): {
                process: log_normal(value)
                for process, value in (entry if isinstance(entry, Mapping) else {name: entry}).items()
            }
            for name, entry in self.uncertainties.items()
        }


def norm(process: str) -> str:
    """The name of the parameter by which a process's yield changes."""
    return f"norm_{process}"


def log_normal(value: Any) -> LogNormal:
    """What a text stands for, as 2.5 % or +5 % -3 %; ValueError for anything else.

    x % alone is a factor of 1 + x at +1 sigma, and the inverse at -1 sigma.
    """
    text = value if isinstance(value, str) else ""
    found, pair = _PERCENTAGE.fullmatch(text), _TWO_PERCENTAGES.fullmatch(text)
    if found is not None and float(found[1]) > 0:
        up = (100 + float(found[1])) / 100
        return LogNormal(up, 1 / up)
    if pair is None:
        raise ValueError("takes a percentage above 0, as in 2.5 %, or one up and one down, as in +5 % -3 %")
    up, down = ((100 + float(f"{sign}{size}")) / 100 for sign, size in (pair.group(1, 2), pair.group(3, 4)))
    if pair[1] == pair[3] or up == down:
        raise ValueError("takes one percentage up and one down, as in +5 % -3 %")
    if min(up, down) <= 0:
        raise ValueError("leaves nothing: give less than 100 % down")
    return LogNormal(up, down)
