"""The entries that the YAML file of an era can have: a correction, or jets; and their evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile, Input
from MLTools.NanoML.corrections.inputs import Objects, inputs_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.weights import UP_DOWN, Factor
from MLTools.NanoML.rootio.lists import Mask, Numbers
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.settings import setting

_VARIATIONS = (
    {"nominal": "nominal", "up": "up", "down": "down"},
    {"nominal": "nominal", "up": "systup", "down": "systdown"},
    {"nominal": "nom", "up": "up", "down": "down"},
    {"nominal": "central", "up": "up", "down": "down"},
    {"nominal": "sf", "up": "sfup", "down": "sfdown"},
)
"""How the object groups call the nominal value and its variations."""


@dataclass(frozen=True)
class Entry:
    """One correction of an era."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")
    name: str = setting(..., "The name of the correction in it: `nanoml corrections FILE` lists them.")
    inputs: dict[str, Any] = setting(dict, "Inputs that are the same for all objects, such as a working point.")
    variations: dict[str, str] = setting(
        dict,
        "The file's names for the nominal value and its variations, if they are not the usual ones.",
        examples=[{"nominal": "nominal", "up": "stat_up", "down": "stat_down"}],
    )
    sources: list[str] = setting(
        list,
        "Sources of the uncertainty in place of the total one: the variations are SOURCE_up and SOURCE_down.",
        uniqueItems=True,
        examples=[["correlated", "uncorrelated"]],
    )

    def found_in(self, file: CorrectionFile, place: str) -> VariedCorrection:
        """The correction in its file; `place` is where the entry stands, for messages."""
        return VariedCorrection(file[self.name], self, place)


@dataclass(frozen=True)
class EnergyScale:
    """The names of jet energy corrections."""

    simulation: str = setting(..., "Name for simulation.", examples=["Summer19UL18_V5_MC"])
    data: dict[str, str] = setting(
        dict,
        "Names for data by range of runs, first to last.",
        names={"pattern": "[0-9]+-[0-9]+", "form": "a range of runs, as in 315252-316995"},
        examples=[{"315252-316995": "Summer19UL18_RunA_V5_DATA"}],
    )


_RANGE = {"pattern": r"[0-9.]+-[0-9.]+", "form": "a range, as in 2.5-3.0"}


@dataclass(frozen=True)
class Region:
    """A region of jets."""

    abseta: str = setting("0-10", "Range of |eta|.", examples=["2.5-3.0"], **_RANGE)
    pt: str = setting("0-100000", "Range of the transverse momentum [GeV].", examples=["0-50"], **_RANGE)

    def contains(self, eta: Numbers, pt: Numbers) -> Mask:
        """Whether jets are in it; the lower ends belong to it."""
        (low, high), (least, most) = ends(self.abseta), ends(self.pt)
        return (abs(eta) >= low) & (abs(eta) < high) & (pt >= least) & (pt < most)


def ends(text: str) -> tuple[float, float]:
    """The ends of a range."""
    low, _, high = text.partition("-")
    return float(low), float(high)


@dataclass(frozen=True)
class JetEntry:
    """The energy scale and resolution of jets."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")
    algorithm: str = setting(..., "Algorithm of the jets.", examples=["AK4PFchs", "AK4PFPuppi"])
    jec: EnergyScale = setting(..., "Energy corrections.")
    jer: Optional[str] = setting(None, "Name of the resolution.", examples=["Summer19UL18_JRV2_MC"])
    matched_only: Optional[str] = setting(
        None,
        "Range of |eta| where only jets with a generated jet are smeared: JME asks for 2.5-3.0 in Run 3.",
        examples=["2.5-3.0"],
        **_RANGE,
    )
    frozen_residual: Optional[Region] = setting(
        None,
        "Where softer jets of data have the L2L3Residual of the upper end in pt: JME asks for it in 2024.",
        examples=[{"abseta": "2.0-2.5", "pt": "0-30"}],
    )
    regions: dict[str, Region] = setting(
        dict,
        "Regions with nuisance parameters of their own, as of the shift jer_NAME.",
        names={"pattern": "[A-Za-z0-9]+", "form": "letters and digits"},
        examples=[{"endcapSoft": {"abseta": "2.5-3.0", "pt": "0-50"}}],
    )
    missing_momentum: str = setting(
        "MET", "The missing momentum that follows from these jets.", examples=["MET", "PuppiMET"]
    )
    sources: list[str] = setting(
        ["Total"], "Sources of the uncertainty of the scale.", minItems=1, uniqueItems=True, examples=[["FlavorQCD"]]
    )

    def found_in(self, file: CorrectionFile, place: str) -> JetCorrections:
        """The corrections in their file, all of which are looked up; `place` is where the entry stands, for messages."""
        found = JetCorrections(file, self, place)
        for first, _ in found.data_ranges():
            found.level("L1L2L3Res", first)
        found.level("L1L2L3Res")
        for source in self.sources:
            found.uncertainty(source)
        if self.jer is not None:
            assert found.resolution
            assert found._resolution_ratio
        return found


class VariedCorrection:
    """A correction with inputs that are fixed, and one that chooses its variations.

    Called as `Correction`, with the inputs that are left, it returns a `Factor`.
    """

    def __init__(self, correction: Correction, entry: Entry, place: str) -> None:
        self.correction = correction
        wrong = [name for name in entry.inputs if name not in correction.inputs]
        if wrong:
            raise ConfigError(
                f"{place}: {correction.name} has no input {wrong[0]}.{did_you_mean(wrong[0], correction.inputs)} "
                f"It has: {', '.join(correction.inputs)}."
            )
        axes = correction.axes
        # a year looks like a number
        self.fixed = {name: str(it) if axes[name].type == "string" else it for name, it in entry.inputs.items()}
        for name, value in self.fixed.items():
            choices = [str(choice) for choice in axes[name].choices]
            if choices and str(value) not in choices:
                hint = did_you_mean(str(value), choices)
                raise ConfigError(f"{place}: inputs: {name} is {value}.{hint} It may be {axes[name].domain}.")
        self.chooser, self.keys = variations_of(correction, self.fixed, entry.variations)
        if entry.sources:
            self.chooser, self.keys = self._by_source(entry.sources, place)
        if entry.variations and (self.chooser is None or "nominal" not in self.keys):
            texts = [f"{name}: {axis.domain}" for name, axis in correction.axes.items() if axis.type == "string"]
            raise ConfigError(
                f"{place}: variations: write a name for `nominal` and each variation that one input of {correction.name} has. "
                f"It has {'; '.join(texts) or 'no texts'}."
            )

    def _by_source(self, sources: Sequence[str], place: str) -> tuple[str, Mapping[str, str]]:
        """The input that chooses the variations, and its values for the nominal one and for those of each source, up and down."""
        keys: set[str] = set()
        for name, axis in self.correction.axes_at(self.fixed).items():
            if axis.type != "string" or name in self.fixed:
                continue
            keys.update(map(str, axis.keys))
            nominal = next((each["nominal"] for each in _VARIATIONS if each["nominal"] in keys), "")
            found = {
                f"{source}_{way}": next((key for key in _of_source(source, way) if key in keys), "")
                for source in sources
                for way in UP_DOWN
            }
            if all(found.values()) and (nominal or not axis.choices):
                return name, {"nominal": nominal or "nominal", **found}  # a default stands for any text
        lost = [each for each in sources if not all(set(_of_source(each, way)) & keys for way in UP_DOWN)]
        raise ConfigError(
            f"{place}: sources: {self.correction.name} does not have {', '.join(lost)}, up and down. "
            f"It has: {', '.join(sorted(keys)) or 'no variations'}."
        )

    @property
    def inputs(self) -> list[str]:
        """The inputs that a call needs."""
        return [name for name in self.correction.inputs if name not in self.fixed and name != self.chooser]

    @property
    def described(self) -> tuple[str, str, str]:
        """Its name, its inputs, and the nominal value and its variations, in words."""
        return self.correction.name, ", ".join(self.inputs), ", ".join(self.keys.values())

    def __call__(self, *values: Input, where: Optional[Mask] = None, **named: Input) -> Factor:
        """The nominal value and all variations; the parameters are those of `Correction`."""
        if self.chooser is None:
            return Factor(self.correction(*values, where=where, **self.fixed, **named))
        found = {
            variation: self.correction(*values, where=where, **self.fixed, **named, **{self.chooser: key})
            for variation, key in self.keys.items()
        }
        return Factor(found.pop("nominal"), found)

    def on(self, objects: Objects, where: Optional[Mask] = None, **named: Input) -> Factor:
        """As a call, with inputs from the branches of the objects, whatever the file calls them: `c.muon_id.on(events.Muon)`.

        Electrons and photons have the pseudorapidity of their supercluster, from `superclusterEta` or `deltaEtaSC`. Inputs that are
        `named` come first: what belongs to the event, as `run`, is given like this.
        """
        return self(where=where, **inputs_of(self.correction, self.inputs, objects, named))

    def of(self, known: Mapping[str, Input], where: Optional[Mask] = None, **named: Input) -> Factor:
        """As a call, by as many of its inputs as are known of the objects: some eras need more, as phi of electrons in 2023."""
        return self(where=where, **{name: it for name, it in {**known, **named}.items() if name in self.inputs})

    def value(self, *values: Input, where: Optional[Mask] = None, **named: Input) -> Numbers:
        """The correction itself, with the fixed inputs; the input that chooses variations must be given."""
        return self.correction(*values, where=where, **self.fixed, **named)


def check_shift(events: Events, branch: str, of: str, shift: tuple[str, str], is_known: bool, known: str) -> None:
    """Raise `NanoMLError` if there is no such shift, name and direction, or if its `branch`, if any, was not corrected before."""
    name, direction = shift
    if not is_known or direction not in UP_DOWN:
        raise NanoMLError(f'there is no shift "{name}" {direction} of {of}. Known are {known}, up and down.')
    if branch and events.before(branch) is events:
        raise NanoMLError(f"the shift {name} of {of} comes after a correction: call `corrected` in `prepare`.")


def variations_of(
    correction: Correction, fixed: Mapping[str, Input], names: Optional[Mapping[str, str]] = None
) -> tuple[Optional[str], Mapping[str, str]]:
    """The input that chooses the nominal value and variations of a correction, and what it may be; None without one.

    `fixed` inputs are others; `names` are those of the variations, if they are not among the usual ones.
    """
    axes = {
        name: axis for name, axis in correction.axes_at(fixed).items() if axis.type == "string" and name not in fixed
    }
    for wanted in [names] if names else _VARIATIONS:
        for name, axis in axes.items():
            lost = set(wanted.values()) - set(axis.keys)
            # where there is a default, it is the nominal value
            if not lost or (not axis.choices and axis.keys and lost == {wanted.get("nominal")}):
                return name, wanted
    return None, {}


def _of_source(source: str, way: str) -> tuple[str, ...]:
    """How the object groups call one direction of a source."""
    ways = (way, "dn") if way == "down" else (way,)
    return tuple(key for each in ways for key in (f"{source}_{each}", f"{each}_{source}", f"{source}{each}"))


@dataclass(frozen=True)
class JetCorrections:
    """The energy scale and resolution of jets of one era."""

    file: CorrectionFile
    entry: JetEntry
    place: str

    def level(self, name: str, run: Optional[int] = None) -> Correction:
        """A level of the energy correction, or with L1L2L3Res the product of all, of a run of data; without a run, of simulation."""
        return self.file[f"{self._campaign(run)}_{name}_{self.entry.algorithm}"]

    def freezing(self, known: Mapping[str, Numbers], run: int, where: Mask) -> Numbers:
        """The factor for the `scale` of data where its last level is frozen, 1 elsewhere; `known` are the inputs of the scale."""
        region = self.entry.frozen_residual
        if region is None:
            return 1.0
        pt = known["JetPt"]
        for level in ("L1FastJet", "L2Relative", "L3Absolute"):
            pt = pt * self.level(level, run).of({**known, "JetPt": pt}, where=where)
        is_frozen, last = where & region.contains(known["JetEta"], pt), self.level("L2L3Residual", run)
        frozen, plain = (last.of({**known, "JetPt": value}, where=is_frozen) for value in (ends(region.pt)[1], pt))
        return frozen / plain

    def uncertainty(self, source: str) -> Correction:
        """The relative uncertainty of the scale from one source; "Absolute" may be "Regrouped_Absolute" in the file."""
        start, end = self.entry.jec.simulation, self.entry.algorithm
        regrouped = f"{start}_Regrouped_{source}_{end}"
        own = f"{start}_{source}_{end}"
        return self.file[regrouped if own not in self.file.names and regrouped in self.file.names else own]

    @property
    def resolution(self) -> Correction:
        """The relative resolution of pt in simulation."""
        return self.file[f"{self._jer}_PtResolution_{self.entry.algorithm}"]

    @property
    def _resolution_ratio(self) -> tuple[Correction, Optional[Correction]]:
        """The resolution of data over that of simulation, and its relative uncertainty, if that is a correction of its own.

        It is since June 2026; before, an input chooses up and down.
        """
        ratio = self.file[f"{self._jer}_ScaleFactor_{self.entry.algorithm}"]
        has_own = "systematic" not in ratio.inputs
        return ratio, self.file[f"{self._jer}_SFUncertainty_{self.entry.algorithm}"] if has_own else None

    def resolution_ratio(self, eta: Numbers, pt: Numbers, is_varied: bool = True) -> Factor:
        """The resolution of data over that of simulation for each jet, up and down if it `is_varied`."""
        ratio, uncertainty = self._resolution_ratio
        known = {"JetEta": eta, "JetPt": pt}
        if not is_varied:
            return Factor(ratio.of(known, systematic="nom") if uncertainty is None else ratio.of(known))
        if uncertainty is None:
            nominal, up, down = (ratio.of(known, systematic=key) for key in ("nom", "up", "down"))
        else:
            nominal, error = ratio.of(known), uncertainty.of(known)
            up, down = nominal * (1 + error), nominal * (1 - error)
        return Factor(nominal, {"up": up, "down": down})

    def within(self, region: str, change: Callable[[Events], Numbers], collection: str) -> Callable[[Events], Numbers]:
        """A change of jets in a region of the entry alone, which is for all jets if `region` is empty."""
        if not region:
            return change

        def restricted(events: Events) -> Numbers:
            jet, here = events.flat(collection), self.entry.regions[region]
            is_there = here.contains(jet.eta, jet.pt if "pt" in jet.columns else jet.rawPt)
            return np.where(is_there, change(events), 1.0)

        return restricted

    def data_ranges(self) -> list[tuple[int, int]]:
        """The ranges of runs that have corrections, first and last."""
        return [(int(first), int(last)) for first, _, last in (text.partition("-") for text in self.entry.jec.data)]

    @property
    def described(self) -> tuple[str, str, str]:
        """The names of the corrections, what they are for, and the sources of uncertainty, in words."""
        return f"{self.entry.jec.simulation}, {self.entry.algorithm}", "jets", ", ".join(self.entry.sources)

    @property
    def matched_only(self) -> tuple[float, float]:
        """The range of |eta| where only jets with a generated jet are smeared; an empty one without any."""
        return ends(self.entry.matched_only or "0-0")

    @property
    def _jer(self) -> str:
        if self.entry.jer is None:
            raise ConfigError(f"{self.place}: `jer` is missing: the name of the jets' resolution.")
        return self.entry.jer

    def _campaign(self, run: Optional[int]) -> str:
        if run is None:
            return self.entry.jec.simulation
        for (first, last), name in zip(self.data_ranges(), self.entry.jec.data.values()):
            if first <= run <= last:
                return name
        raise NanoMLError(
            f"{self.place}: jec.data, of {self.file.path}, has no range with run {run}. It has: "
            f"{', '.join(self.entry.jec.data) or 'none'}. Correct these data by the file of their own era."
        )
