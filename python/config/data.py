"""The sections `datasets`, `eras` and `data_driven`, which are samples of events, and `skim`, `convert` and `score`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

from MLTools.NanoML.extending import extended
from MLTools.NanoML.schema.settings import BRANCH, DATASET, PRODUCT, REGION, setting

# the settings that say which files are read: what is made of a file does not depend on them
FROM_WHERE = ("files", "das", "instance", "status", "max_files", "max_events")
# the last parts of the names of datasets that are, or may be, NanoAOD
TIERS = ("NANOAOD", "NANOAODSIM", "USER")
TRAINING, FIT = "training", "fit"
"""Where events count: in the training and its report, in histograms and the fit."""


def only() -> Any:
    """The setting that leaves events out of one of the two."""
    doc = "Where its events count, if not everywhere: in the training and its report, or in histograms and the fit."
    return setting(None, doc, enum=(TRAINING, FIT))


@dataclass(frozen=True)
class Era:
    """A period of data taking, for data and the simulation that goes with them."""

    luminosity: Optional[float] = setting(
        None,
        "Integrated luminosity of its data [/fb], to which its simulation is scaled.",
        exclusiveMinimum=0,
        **PRODUCT,
    )
    certified: Optional[str] = setting(
        None, "JSON file of its certified luminosity sections, instead of skim.certified."
    )
    corrections: Optional[str] = setting(
        None, "YAML file of its corrections, for selections that use them.", examples=["corrections/2018.yaml"]
    )
    luminosity_uncertainty: Any = setting(
        None,
        "Uncertainty of its luminosity, in per cent; or a mapping of components, of which those with the same name are shared by eras.",
        examples=["2.5 %", "{lumi_13TeV_correlated: 0.6 %, lumi_2018: 1.5 %}"],
    )
    energy: Optional[float] = setting(
        None, "Energy of the collisions in the centre of mass [TeV], for figures.", exclusiveMinimum=0, examples=[13.6]
    )


@dataclass(frozen=True)
class Dataset:
    """One sample of events: simulation of one process, or data."""

    files: list[str] = setting(
        list,
        "NanoAOD files: paths, patterns such as data/WZ/*.root, root:// URLs, logical names (/store/...), "
        "directories and patterns on XRootD servers (root://eosuser.cern.ch//eos/.../), or text files (*.txt) with one "
        "of these per line.",
        examples=["data/WZ/*.root"],
    )
    class_: Optional[str] = setting(
        None,
        "The class of these events in the training, and the process that they are in histograms and in the fit. Several datasets may share "
        "a class; a dataset without one is only scored. A regression (`train.targets`) needs no classes: without any, all simulation is "
        "trained on. It stands in formulas, ROOT files and datacards; `style.processes` has its label in figures.",
        pattern=REGION["pattern"],
        form="a name of letters, digits and _, as in Wjets; what figures call it is in `style.processes`",
        examples=["signal"],
    )
    cross_section: Optional[float] = setting(
        None, "Cross section of the process [pb].", exclusiveMinimum=0, **PRODUCT, examples=[0.0546, "831.8 * 0.1061"]
    )
    k_factor: Optional[float] = setting(
        None, "Factor for the cross section, such as a k factor for higher orders.", exclusiveMinimum=0, **PRODUCT
    )
    era: Optional[str] = setting(None, "The era that it belongs to, one of `eras`.", or_number=True)
    luminosity: Optional[float] = setting(
        None,
        "Integrated luminosity [/fb] to which it is scaled, if it is not that of its era or of the analysis.",
        exclusiveMinimum=0,
        **PRODUCT,
    )
    weight: Optional[str] = setting(
        None,
        "A weight of its events, for samples that overlap, for example: an expression of event-level columns that the skim keeps, in "
        "the language of skim.cut.",
        examples=["LHE_HT < 100", "1 - 0.5 * (GenLepton_pt > 100)"],
    )
    generator_weights: bool = setting(
        True,
        "Whether an event of simulation counts with the weight of its generator. With false each event counts 1, and the sum of weights is "
        "the number of generated events: for files without these weights, or to compare with an analysis that ignores them.",
        sparse=True,
    )
    triggers: list[str] = setting(
        list,
        "For data: only events that fire one of these are kept. Simulation keeps events that fire a trigger of any data of its era.",
        items=BRANCH,
        uniqueItems=True,
        examples=[["HLT_IsoMu24"]],
    )
    is_data: bool = setting(
        False,
        "True for data, false for simulation. An event that is in several datasets of data is kept in the first.",
        key="data",
    )
    parameters: dict[str, float] = setting(
        dict,
        "Numbers that are the same for all its events, such as the mass of a hypothesis: columns of the "
        "HDF5 files, for networks that depend on them. They are NaN for datasets that do not have them.",
        names={**BRANCH, "form": "the name of a column, as in mass"},
        examples=[{"mass": 600}],
    )
    varies: list[str] = setting(
        list,
        "Datasets of one class that this one stands in for under a systematic variation, such as those with another tune or another "
        "mass of the top quark. It is filled into histograms as this variation, and nothing else.",
        uniqueItems=True,
        examples=[["TTTo2L2Nu"]],
    )
    variation: Optional[str] = setting(
        None,
        "What it shows: hdamp_up and hdamp_down, or one name, such as herwig, if the other direction is its mirror image.",
        pattern="[A-Za-z][A-Za-z0-9_]*",
        form="a name, as in hdamp_up",
        examples=["hdamp_up"],
    )
    only: Optional[str] = only()
    das: list[str] = setting(
        list,
        "Names of datasets in CMS's catalogue, with wildcards: `nanoml datasets` shows what they match.",
        items=DATASET,
        examples=["/DYJetsToLL_M-50_TuneCP5_13TeV-madgraphMLM-pythia8/*NanoAODv9*/NANOAODSIM"],
    )
    instance: Optional[str] = setting(
        None,
        "Instance of the catalogue; by default prod/global, and prod/phys03 for names that end in /USER.",
        pattern="(?:prod|int|dev)/(?:global|phys0[1-3])",
        form="an instance such as prod/global or prod/phys03",
    )
    status: list[str] = setting(
        ["VALID"],
        "Which datasets of the catalogue are taken. Those in PRODUCTION are not complete yet.",
        items={"pattern": "VALID|PRODUCTION|INVALID|DEPRECATED", "form": "VALID, PRODUCTION, INVALID or DEPRECATED"},
        minItems=1,
        uniqueItems=True,
    )
    max_files: Optional[int] = setting(None, "Number of files that are read, the first of the list.", minimum=1)
    max_events: Optional[int] = setting(
        None,
        "Only the first files of the list are read, until they have this many events, according to the catalogue.",
        minimum=1,
    )


@dataclass(frozen=True)
class DataDriven:
    """A class of events that is estimated from data: those in one region stand for what is expected in others."""

    from_: list[str] = setting(
        ...,
        "The datasets of data. An event that is in several of them counts once.",
        minItems=1,
        uniqueItems=True,
        examples=[["Muon_2018", "EGamma_2018"]],
    )
    region: str = setting(..., "The region in which the events are.", **REGION, examples=["sideband"])
    weight: Union[str, float] = setting(
        ...,
        "The weight of each event, such as a fake factor or the ratio of two regions: a number, or an expression of event-level "
        "columns in the language of skim.cut.",
        pattern=".+",
        form="a number, or an expression of columns",
        examples=["fake_factor", 0.12],
    )
    variations: dict[str, Union[str, float]] = setting(
        dict,
        "The transfer weight under its variations, as numbers or expressions: up and down, or NAME_up and NAME_down for each "
        "source of uncertainty.",
        names={"pattern": "[A-Za-z0-9_]+", "form": "up, down, or a name of letters, digits and _, as in statistics_up"},
        examples=[{"up": "1.3 * fake_factor", "down": "0.7 * fake_factor"}],
    )
    subtract: list[str] = setting(
        list,
        "Simulation whose events in the region are subtracted, by dataset or class, with all their weights.",
        uniqueItems=True,
        examples=[["WZ", "ZZ"]],
    )
    into: dict[str, str] = setting(
        dict,
        "The regions for which it is the estimate, each with the cut that its events must pass to count there (1: all do).",
        names=REGION,
        items={"or_number": True},
        examples=[{"SR": "nBJet == 0"}],
    )
    only: Optional[str] = only()


@dataclass(frozen=True)
class Part:
    """The events of a dataset in a class that is estimated from data."""

    name: str  # of their HDF5 file
    class_: str
    dataset: str
    is_subtracted: bool


ENGINES = ("columnar", "nanoaodtools")
"""The engines that `skim.engine` can name."""
ONLY_NANOAODTOOLS = "modules run in nanoAOD-tools alone. Leave the engine out: modules take nanoaodtools by themselves"
FORMATS = ("TTree", "RNTuple")
"""The formats that `skim.format` can name."""


@extended("skim")
@dataclass(frozen=True)
class Skim:
    """Which events and branches are kept."""

    selection: Optional[str] = setting(
        None,
        "The class that selects events and computes columns, as module:Class or file.py:Class.",
        pattern=r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.+\.py):[A-Za-z_]\w*",
        form="module:Class or file.py:Class",
        examples=["MLTools.NanoML.trilepton:Trilepton", "my_selection.py:DiMuon"],
    )
    keep: list[str] = setting(
        list,
        "Branches to keep, by name or pattern, beside the selection's columns and the event's identifiers; "
        "`drop PATTERN` removes some of those before it.",
        examples=[["MET_*", "Muon_*", "drop Muon_*Iso*"]],
    )
    branches: Optional[str] = setting(
        None,
        "Branch selection file of nanoAOD-tools: lines such as `drop HLT_*`, beginning with all branches. "
        "The rules of `keep` come after it.",
        examples=["keep_and_drop.txt"],
    )
    modules: list[str] = setting(
        list,
        "Modules that nanoAOD-tools runs event by event, after the selection if there is one: "
        "a class or a function that makes the module, as module:name or file.py:name.",
        examples=[["my_module.py:MyModule"]],
    )
    cut: Optional[str] = setting(
        None,
        "A cut before the selection, as nano_postproc.py takes it after -c.",
        examples=["nMuon >= 2 && Muon_pt[0] > 20"],
    )
    certified: Optional[str] = setting(
        None,
        "JSON file of certified luminosity sections. Only these are kept of data; simulation is not affected.",
        examples=["Cert_271036-284044_13TeV_Legacy2016_Collisions16_JSON.txt"],
    )
    compression: str = setting(
        "ZLIB:5",
        "Compression of the ROOT files: algorithm and level.",
        pattern="(?:ZSTD|LZMA|ZLIB|LZ4):[1-9]",
        form="ZSTD, LZMA, ZLIB or LZ4 and a level from 1 to 9, as in ZLIB:5",
    )
    format: str = setting(
        FORMATS[0],
        "The format of events and all other rows. RNTuple is ROOT's newer one; it needs uproot 5.7.",
        enum=FORMATS,
    )
    chunk: int = setting(100_000, "How many events are read at once at most.", minimum=1)
    memory: int = setting(100, "Memory for the branches that are read at once [MB].", minimum=1)
    workers: int = setting(
        0,
        "Files that are read at the same time; 0: one for each usable core, or a single one if all are a few MB.",
        minimum=0,
    )
    engine: Optional[str] = setting(
        None,
        "The program that skims: columnar is NanoML's own, nanoaodtools the PostProcessor of PhysicsTools/NanoAODTools, "
        "event by event, where that and ROOT are installed. By default it runs modules, and columnar all else.",
        enum=ENGINES,
    )


@dataclass(frozen=True)
class Objects:
    """The objects of one collection, such as the jets of an event."""

    fields: list[str] = setting(
        ...,
        "Branches of the collection without its prefix: pt for Jet_pt.",
        minItems=1,
        uniqueItems=True,
        items=BRANCH,
        examples=[["pt", "eta", "phi", "mass"]],
    )
    max: Optional[int] = setting(
        None,
        "How many objects of an event are kept, the first in order. Give this or a quantile.",
        minimum=1,
        examples=[6],
    )
    quantile: Optional[float] = setting(
        None,
        "Instead of max: keep as many objects as this share of all events needs.",
        exclusiveMinimum=0,
        maximum=1,
        examples=[0.99],
    )
    order: Optional[str] = setting(
        "-pt",
        "The field to sort by, with a minus for descending; null keeps the order of the file.",
        pattern="-?[A-Za-z_][A-Za-z0-9_]*",
        form='the name of a field, or "-" and the name of a field',
    )


@extended("convert")
@dataclass(frozen=True)
class Convert:
    """The inputs of the network: skims become HDF5 files."""

    features: list[str] = setting(
        ...,
        "Columns of the selection or branches of NanoAOD, with one number per event.",
        minItems=1,
        uniqueItems=True,
        items=BRANCH,
        examples=[["ZCand_mass", "MET_pt"]],
    )
    objects: dict[str, Objects] = setting(
        dict,
        "Collections of objects, such as Jet, by name.",
        names={**BRANCH, "form": "the name of a collection, as in Jet"},
    )
    float16: list[str] = setting(
        list,
        "Columns to store with half precision (3 digits, up to 65504), by name or pattern, as in Jet_*.",
        examples=[["Jet_*"]],
    )
    compression: Optional[str] = setting(
        "gzip:1",
        "Compression of the HDF5 files: gzip and a level; null for none.",
        pattern="gzip:[1-9]",
        form="gzip and a level from 1 to 9, as in gzip:4",
    )
    memory: int = setting(100, "Memory for the events being converted [MB].", minimum=1)
    shuffle: Optional[int] = setting(
        None,
        "Seed: all datasets go into one file, in random order, which training reads in one go; "
        "by default each dataset has its own file.",
        minimum=0,
        maximum=2**32 - 1,
    )
    allow_gaps: bool = setting(
        False,
        "Whether entries may be missing from a file that nano_postproc.py read in ranges. Then only the weights that "
        "were read count in the normalisation.",
    )
    missing: dict[str, list[float]] = setting(
        dict,
        'Numbers that stand for "no value", by name or pattern of columns: networks are told that the value is missing, as they are where '
        "it is not a finite number, and where a number such as -999 lies far from all others. [] says that no number does.",
        examples=[{"Jet_btagDeepFlavB": -1, "dxy_*": [-99, -999], "pfRelIso": []}],
    )
    shifts: list[str] = setting(
        list,
        "Shifts of objects under which the events of simulation are stored as well, by name or pattern: each takes as much space as the "
        "nominal events.",
        uniqueItems=True,
        examples=[["jes", "jer*"]],
    )


@extended("score")
@dataclass(frozen=True)
class Score:
    """Events that get the network's output as new branches."""

    files: Optional[list[str]] = setting(None, "ROOT files to score; by default the skims of all datasets.", minItems=1)
    model: Optional[list[str]] = setting(
        None,
        "The ONNX file or files; by default the exported one. With [], files that are already scored get only weights and regions.",
        uniqueItems=True,
        examples=["model.onnx"],
    )
    parameter: dict[str, list[float]] = setting(
        dict,
        "Values of the models' parameters, by name. At several, there are scores NAME_CLASS_mass600 for each; by default, the "
        "analysis's own model has scores at each value that datasets have.",
        examples=[{"mass": 600}, {"mass": [600, 800]}],
    )
    copy: bool = setting(False, "True to write full copies of the files with the scores, not the scores alone.")
