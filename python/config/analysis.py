"""The configuration of an analysis: the sections of its YAML file, and what follows from several of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from MLTools.NanoML.config.batch import Batch
from MLTools.NanoML.config.data import FIT, TRAINING, Convert, DataDriven, Dataset, Era, Part, Score, Skim
from MLTools.NanoML.config.evaluation import Evaluate, Export, Tune
from MLTools.NanoML.config.fit import EVERYWHERE, NONE, Blind, Fit, Histogram, LogNormal, log_normal
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.templates import HistogramChannel, Hypothesis
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.extending import extended
from MLTools.NanoML.model import CLASSES
from MLTools.NanoML.networks import NetworkClass
from MLTools.NanoML.rootio.remote.client import Read
from MLTools.NanoML.schema.document import Document, Key, dotted
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.schema.settings import NAME, PRODUCT, REGION, setting

if TYPE_CHECKING:
    from MLTools.NanoML.selection.selected import DatasetInfo


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
class RegionLook:
    """How figures and tables show a region."""

    label: str = setting(
        "", "Its name, with formulae in matplotlib's mathtext.", sparse=True, examples=["$t\\bar{t}$ control region"]
    )


@dataclass(frozen=True)
class Look:
    """How figures look: the same processes and quantities have the same names and colours in all of them."""

    label: str = setting(
        "",
        'The label of figures; by default "Private work (CMS simulation)".',
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
    regions: dict[str, RegionLook] = setting(
        dict, "Regions, by their names.", examples=["{SR: {label: Signal region}}"]
    )


@extended("")
@dataclass(frozen=True)
class Config:
    """A NanoML analysis: from NanoAOD to a trained network."""

    workdir: str = setting("", "The directory for all results; by default it has the name of the YAML file.")
    luminosity: Optional[float] = setting(
        None, "Integrated luminosity [/fb], to which simulation is scaled.", exclusiveMinimum=0, **PRODUCT
    )
    luminosity_uncertainty: Any = setting(
        None,
        "Uncertainty of the luminosity, in per cent; or a mapping of components.",
        examples=["2.5 %", "{lumi_13TeV_correlated: 0.6 %, lumi_2018: 1.5 %}"],
    )
    energy: Optional[float] = setting(
        None, "Energy of the collisions in the centre of mass [TeV], for figures.", exclusiveMinimum=0, examples=[13.6]
    )
    corrections: Optional[str] = setting(
        None,
        "YAML file of corrections, for selections that use them, if there is one era.",
        examples=["corrections/2018.yaml"],
    )
    eras: dict[str, Era] = setting(dict, "Periods of data taking, by name, if there are several.", names=NAME)
    datasets: dict[str, Dataset] = setting(dict, "The samples of events, by name.", names=NAME)
    regions: dict[str, str] = setting(
        dict,
        "Regions, by name: cuts on event-level columns of the skims, in the language of skim.cut.",
        names=REGION,
        examples=[{"SR": "nBJet == 0 && abs(ZCand_mass - 91.2) < 15"}],
    )
    data_driven: dict[str, DataDriven] = setting(
        dict, "Classes that are estimated from data in a region, by name.", names=NAME
    )
    read: Read = setting(Read)
    skim: Optional[Skim] = setting(None)
    convert: Optional[Convert] = setting(None)
    train: Optional[Train] = setting(None)
    tune: Optional[Tune] = setting(None)
    evaluate: Optional[Evaluate] = setting(None)
    export: Optional[Export] = setting(None)
    score: Optional[Score] = setting(None)
    histogram: dict[str, Histogram] = setting(dict, "Histograms of all events, by name.", names=REGION)
    fit: Optional[Fit] = setting(None)
    style: Look = setting(Look)
    blind: Union[Blind, str] = setting(Blind, pattern=NONE, form='none, or "regions: [...]"')
    batch: Batch = setting(Batch)
    base: Path = field(default=Path(), compare=False, metadata={"hidden": True})
    """The directory of the YAML file, to which relative paths are relative."""
    document: Document = field(default=Document("configuration"), compare=False, repr=False, metadata={"hidden": True})
    """The YAML file, for the lines in error messages."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of all classes that are estimated from data."""
        return tuple(part for class_ in self.data_driven for part in parts_of(self, class_))

    def members(self, use: str) -> dict[str, str]:
        """The datasets, and then the parts of classes from data, that count in TRAINING or in FIT, each with its class."""
        datasets, driven, within = self.datasets, self.data_driven, {None, use}
        own = {name: it.class_ for name, it in datasets.items() if it.class_ is not None and it.only in within}
        parts = (it for it in self.parts if {datasets[it.dataset].only, driven[it.class_].only} <= within)
        return {**own, **{it.name: it.class_ for it in parts}}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes to train on: the signal, then the others by name, in whatever order their datasets are."""
        return self._ordered(self.members(TRAINING).values())

    @property
    def processes(self) -> tuple[str, ...]:
        """The classes that are in histograms and in the fit, in the same order."""
        return self._ordered(self.members(FIT).values())

    def _ordered(self, classes: Iterable[str]) -> tuple[str, ...]:
        found = list(dict.fromkeys(classes))
        signal = (self.train or Train()).signal_among(found) if found else None
        return tuple(sorted(found, key=lambda name: (name != signal, name)))

    def process_of(self, name: str) -> Optional[str]:
        """The process of a dataset of simulation in histograms: its class, or that of the datasets that it varies; None without one."""
        return self.members(FIT).get(next(iter(self.datasets[name].varies), name))

    def parts_in(self, use: str) -> tuple[Part, ...]:
        """The parts of classes from data that count in TRAINING or in FIT."""
        members = self.members(use)
        return tuple(part for part in self.parts if part.name in members)

    @property
    def trained(self) -> tuple[str, ...]:
        """The HDF5 files to train on, by name: datasets with a class and parts of classes.

        They are those of all simulation for single objects, and for a regression if there are no classes.
        """
        if self.train is not None and (self.train.per_object or (self.train.targets and not self.classes)):
            found = self.datasets.items()
            return tuple(sorted(name for name, it in found if not it.is_data and not it.varies and it.only != FIT))
        return tuple(sorted(self.members(TRAINING)))

    @property
    def is_regression(self) -> bool:
        """Whether targets are estimated, and no classes told apart beside them."""
        if self.train is None or not self.train.targets:
            return False
        found = NetworkClass.of(self.train.model, self.base)
        return found is None or CLASSES not in found.heads

    @property
    def trainings(self) -> tuple[Optional[str], ...]:
        """The eras that have a training each; None alone stands for one training of all."""
        if self.train is None or not self.train.per_era:
            return (None,)
        used = {dataset.era for dataset in self.datasets.values()}
        return tuple(era for era in self.eras if era in used)

    def training_of(self, name: str) -> Optional[str]:
        """Which of the trainings has the networks for the events of a dataset."""
        return self.datasets[name].era if self.train is not None and self.train.per_era else None

    def trained_in(self, era: Optional[str]) -> tuple[str, ...]:
        """The files of `trained` that are of an era; with None all."""
        owners = {part.name: part.dataset for part in self.parts}
        return tuple(name for name in self.trained if era in (None, self.datasets[owners.get(name, name)].era))

    @property
    def converted_data(self) -> tuple[str, ...]:
        """The datasets of data that are converted, by name."""
        if self.convert is None:
            return ()
        return tuple(sorted(name for name, dataset in self.datasets.items() if dataset.is_data))

    def earlier(self, name: str) -> tuple[str, ...]:
        """The datasets of data before a dataset of data, which may have the same events.

        There are none for simulation: run, luminosity section and event number repeat from sample to sample.
        """
        if not self.datasets[name].is_data:
            return ()
        names = list(self.datasets)
        return tuple(other for other in names[: names.index(name)] if self.datasets[other].is_data)

    def era_of(self, name: str) -> Era:
        """The era of a dataset; without eras, what the analysis says for all."""
        era = self.datasets[name].era
        if era is not None:
            return self.eras[era]
        return Era(self.luminosity, corrections=self.corrections, energy=self.energy)

    def luminosity_of(self, name: str) -> Optional[float]:
        """The integrated luminosity [/fb] to which a dataset is scaled; None if it is not known."""
        return self.datasets[name].luminosity or self.era_of(name).luminosity

    def cross_section_of(self, name: str) -> Optional[float]:
        """The cross section of a dataset [pb], times its k factor; None if it is not known."""
        dataset = self.datasets[name]
        return None if dataset.cross_section is None else dataset.cross_section * (dataset.k_factor or 1.0)

    def triggers_of(self, name: str) -> tuple[str, ...]:
        """The triggers by which events of a dataset are taken: its own for data, those of all data of its era for simulation."""
        dataset = self.datasets[name]
        of_era = [it for it in self.datasets.values() if it.is_data and it.era == dataset.era]
        data = [dataset] if dataset.is_data else of_era
        return tuple(dict.fromkeys(trigger for each in data for trigger in each.triggers))

    def info_of(self, name: str) -> DatasetInfo:
        """The facts about a dataset that a selection may know."""
        from MLTools.NanoML.selection.selected import DatasetInfo  # takes awkward, which most commands do without

        dataset, era = self.datasets[name], self.era_of(name)
        corrections = str(self.path(era.corrections)) if era.corrections else ""
        parameters, triggers = dict(dataset.parameters), self.triggers_of(name)
        return DatasetInfo(name, dataset.era or "", dataset.is_data, parameters, triggers, corrections)

    def skim_files(self) -> Iterator[tuple[tuple[Key, ...], str]]:
        """The files that skims read beside their inputs and the user's code, each with the keys that name it."""
        for name in ("certified", "branches"):
            if self.skim and getattr(self.skim, name):
                yield ("skim", name), getattr(self.skim, name)
        corrections: dict[tuple[Key, ...], Optional[str]] = {("corrections",): self.corrections}
        for key, era in self.eras.items():
            if era.certified:
                yield ("eras", key, "certified"), era.certified
            corrections["eras", key, "corrections"] = era.corrections
        for keys, text in corrections.items():
            if text:
                from MLTools.NanoML.corrections.era import local_files  # few analyses have any

                yield keys, text
                yield from ((keys, os.path.relpath(file, self.base)) for file in local_files(self.path(text)))

    def path(self, text: str) -> Path:
        """Make a path of a text in the configuration; "~" is the home directory."""
        return self.base / os.path.expanduser(text)

    def where(self, *keys: Key) -> str:
        """The place of a setting, as in "analysis.yaml:14": where("convert", "features", 3)."""
        return self.document.where(*keys)

    def place(self, *keys: Key) -> str:
        """The place of a setting with its name, as in "analysis.yaml:14: skim.keep"."""
        return f"{self.where(*keys)}: {dotted(keys)}"

    def error(self, *keys: Key, message: str) -> ConfigError:
        """Make an error about a setting, with its place: "analysis.yaml:14: skim.keep: `message`"."""
        return self.document.error([(keys, message)])

    def as_dict(self, section: Optional[str] = None) -> dict[str, object]:
        """A section, or all of them, as JSON could hold it, with defaults; an absent section is empty."""
        return plain(self if section is None else getattr(self, section)) or {}


def parts_of(config: Config, class_: str) -> list[Part]:
    """The parts of a class that is estimated from data, those of data in the order of their datasets."""
    wanted = config.data_driven[class_]
    kept = [Part(f"{class_}_from_{name}", class_, name, False) for name in config.datasets if name in wanted.from_]
    names = dict.fromkeys(name for entry in wanted.subtract for name in subtracted_by(config, wanted, entry))
    return [*kept, *(Part(f"{class_}_less_{name}", class_, name, True) for name in names)]


def subtracted_by(config: Config, wanted: DataDriven, entry: str) -> list[str]:
    """The datasets that an entry of `subtract` names: that of this name, or those of the class in the eras of the data."""
    if entry in config.datasets:
        return [entry]
    eras = {config.datasets[name].era for name in wanted.from_ if name in config.datasets}
    return [name for name, dataset in config.datasets.items() if dataset.class_ == entry and dataset.era in eras]


def regions_of(config: Config, histogram: Histogram) -> Sequence[str]:
    """The regions of a histogram; EVERYWHERE alone if the analysis has none."""
    return histogram.regions or list(config.regions) or [EVERYWHERE]


def unbinned_channels(config: Config) -> list[HistogramChannel]:
    """The channels of the fit without bins: the regions of `fit.unbinned` in each era with datasets."""
    given = config.fit.of_events if config.fit is not None else None
    used = {it.era for it in config.datasets.values()}
    eras = [it for it in config.eras or [None] if it in used]
    return [HistogramChannel(region, era) for region in given.regions for era in eras] if given else []


def hypotheses(config: Config) -> list[Hypothesis]:
    """The values that datasets have of the parameter of the fit, or else of the network; none without one."""
    named = [section.parameter for section in (config.fit, config.train) if section is not None and section.parameter]
    fitted = [it.parameters for it in config.datasets.values() if it.only != TRAINING]
    values = {it[named[0]] for it in fitted if named and named[0] in it}
    return [Hypothesis(named[0], value) for value in sorted(values)]


def scored_values(config: Config) -> dict[str, list[float]]:
    """The values of the models' parameters at which there are scores: by default all that datasets have."""
    given = config.score.parameter if config.score is not None else {}
    name = config.train.parameter if config.train is not None else None
    if name is None or given or (config.score is not None and config.score.model is not None):
        return given
    values = {it.parameters[name] for it in config.datasets.values() if name in it.parameters}
    return {name: sorted(values)} if values else {}


def signal_of(config: Config) -> Optional[str]:
    """The class that histograms call signal, by default that of the training; None without classes."""
    known = config.classes if config.train is not None else config.processes
    return (config.train or Train()).signal_among(known) if known else None


def luminosity_uncertainties(config: Config) -> dict[str, dict[str, LogNormal]]:
    """Uncertainties of the luminosity by era, and then by nuisance parameter; an analysis without eras has the era "".

    A single percentage is the parameter lumi_ERA, or lumi without eras. Components of one name are shared by eras.
    """
    given = {name: era.luminosity_uncertainty for name, era in config.eras.items()} or {
        "": config.luminosity_uncertainty
    }
    return {
        era: {name: log_normal(value) for name, value in luminosity_components(uncertainty, era).items()}
        for era, uncertainty in given.items()
    }


def luminosity_components(uncertainty: object, era: str) -> Mapping[str, object]:
    """The components of an uncertainty of the luminosity, by nuisance parameter."""
    if uncertainty is None or isinstance(uncertainty, Mapping):
        return uncertainty or {}
    return {f"lumi_{era}" if era else "lumi": uncertainty}


def fitted_signal(config: Config, fit: Fit) -> Optional[str]:
    """The class whose strength is fitted; None if there are no classes."""
    return fit.signal or signal_of(config)


def cross_section(config: Config, fit: Fit, hypothesis: Hypothesis) -> Optional[float]:
    """The cross section [pb] of the signal, as its datasets give it; None if it is not known, or not the same in all eras."""
    found: dict[Optional[str], float] = {}
    members, signal = config.members(FIT), fitted_signal(config, fit)
    for name, dataset in config.datasets.items():
        if members.get(name) == signal and hypothesis.allows(dataset.parameters):
            value, whole = config.cross_section_of(name), config.era_of(name).luminosity
            if value is None:
                return None
            # a part of an era has its part of the cross section
            share = (config.luminosity_of(name) or 0.0) / whole if whole else 1.0
            found[dataset.era] = found.get(dataset.era, 0.0) + value * share
    values = list(found.values())
    return values[0] if values and max(values) - min(values) <= 1e-6 * values[0] else None
