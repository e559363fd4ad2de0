"""The corrections of one era, as a YAML file names them: `corrections/2018.yaml`."""

from __future__ import annotations

import functools
import json
import os
import shutil
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import cache_directory, replacing, write_text
from MLTools.NanoML.config.document import Document
from MLTools.NanoML.config.schema import checked, json_schema
from MLTools.NanoML.config.setting import setting
from MLTools.NanoML.contracts.plain import build
from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile
from MLTools.NanoML.errors import ConfigError, NanoMLError, explain_os_error
from MLTools.NanoML.nanoaod.versions import did_you_mean
from MLTools.NanoML.rootio.remote.file import RemoteFile
from MLTools.NanoML.rootio.remote.server import is_xrootd
from MLTools.NanoML.selection.weights import Factor

CVMFS = (
    "/cvmfs/cms-griddata.cern.ch/cat/metadata",
    "/cvmfs/cms.cern.ch/rsync/cms-nanoAOD/jsonpog-integration",
    "/cvmfs/cms.cern.ch/rsync/cms-nanoAOD/jsonpog-integration/POG",
)
"""Where CMS keeps the files of its object groups."""

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

    file: str = setting(..., "The file: a path, a URL, or a path as below CMS's directories on CVMFS.")
    name: str = setting(..., "The name of the correction in it: `nanoml corrections FILE` lists them.")
    inputs: dict[str, Any] = setting(dict, "Inputs that are the same for all objects, such as a working point.")
    variations: dict[str, str] = setting(
        dict,
        "What the file calls the nominal value and its variations, if it is none of the usual names.",
        examples=[{"nominal": "nominal", "up": "stat_up", "down": "stat_down"}],
    )


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


@dataclass(frozen=True)
class JetEntry:
    """The energy scale and resolution of jets."""

    file: str = setting(..., "The file: a path, a URL, or a path as below CMS's directories on CVMFS.")
    algorithm: str = setting(..., "Algorithm of the jets.", examples=["AK4PFchs", "AK4PFPuppi"])
    jec: EnergyScale = setting(..., "Energy corrections.")
    jer: Optional[str] = setting(None, "Name of the resolution.", examples=["Summer19UL18_JRV2_MC"])
    sources: list[str] = setting(
        ["Total"], "Sources of the uncertainty of the scale.", minItems=1, uniqueItems=True, examples=[["FlavorQCD"]]
    )


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
        if entry.variations and (self.chooser is None or "nominal" not in self.keys):
            texts = [f"{name}: {axis.domain}" for name, axis in correction.axes.items() if axis.type == "string"]
            raise ConfigError(
                f"{place}: variations: write a name for `nominal` and each variation that one input of {correction.name} has. "
                f"It has {'; '.join(texts) or 'no texts'}."
            )

    @property
    def inputs(self) -> list[str]:
        """The inputs that a call needs."""
        return [name for name in self.correction.inputs if name not in self.fixed and name != self.chooser]

    def __call__(self, *values: Any, where: Any = None, **named: Any) -> Factor:
        """The nominal value and all variations; the parameters are those of `Correction`."""
        if self.chooser is None:
            return Factor(self.correction(*values, where=where, **self.fixed, **named))
        found = {
            variation: self.correction(*values, where=where, **self.fixed, **named, **{self.chooser: key})
            for variation, key in self.keys.items()
        }
        return Factor(found.pop("nominal"), found)

    def value(self, *values: Any, where: Any = None, **named: Any) -> Any:
        """The correction itself, with the fixed inputs; the input that chooses variations must be given."""
        return self.correction(*values, where=where, **self.fixed, **named)


def variations_of(
    correction: Correction, fixed: Mapping[str, Any], names: Optional[Mapping[str, str]] = None
) -> tuple[Optional[str], Mapping[str, str]]:
    """The input that chooses the nominal value and variations of a correction, and what it may be; None without one.

    `fixed` inputs are others; `names` are those of the variations, if they are not among the usual ones.
    """
    for wanted in [names] if names else _VARIATIONS:
        for name, axis in correction.axes.items():
            if axis.type == "string" and name not in fixed and set(wanted.values()) <= set(axis.choices):
                return name, wanted
    return None, {}


@dataclass(frozen=True)
class JetCorrections:
    """The energy scale and resolution of jets of one era."""

    file: CorrectionFile
    entry: JetEntry
    place: str

    def scale(self, is_data: bool, run: Optional[int] = None) -> Correction:
        """The product of all levels of the energy correction, of simulation or of a run of data."""
        return self.file[f"{self._campaign(is_data, run)}_L1L2L3Res_{self.entry.algorithm}"]

    def pileup_level(self, is_data: bool, run: Optional[int] = None) -> Correction:
        """Its first level alone, which removes pile-up."""
        return self.file[f"{self._campaign(is_data, run)}_L1FastJet_{self.entry.algorithm}"]

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
    def resolution_ratio(self) -> Correction:
        """The resolution of data over that of simulation."""
        return self.file[f"{self._jer}_ScaleFactor_{self.entry.algorithm}"]

    def data_ranges(self) -> list[tuple[int, int]]:
        """The ranges of runs that have corrections, first and last."""
        return [(int(first), int(last)) for first, _, last in (text.partition("-") for text in self.entry.jec.data)]

    @property
    def _jer(self) -> str:
        if self.entry.jer is None:
            raise ConfigError(f"{self.place}: `jer` is missing: the name of the jets' resolution.")
        return self.entry.jer

    def _campaign(self, is_data: bool, run: Optional[int]) -> str:
        if not is_data:
            return self.entry.jec.simulation
        for (first, last), name in zip(self.data_ranges(), self.entry.jec.data.values()):
            if run is not None and first <= run <= last:
                return name
        raise NanoMLError(
            f"{self.place}: jec.data has no range with run {run}. It has: {', '.join(self.entry.jec.data) or 'none'}."
        )


class Corrections:
    """The corrections of one era.

    `corrections.muon_id(eta, pt)` evaluates the entry `muon_id` for arrays of any shape, with its variations, and returns a
    `Factor`. The entry `jets` is a `JetCorrections`.

    Attributes
    ----------
    path
        The YAML file.
    digests
        SHA-256 of each file of corrections, by its name in the YAML file.
    files
        Paths of these files.
    """

    def __init__(self, path: Path, entries: Mapping[str, Any], opened: Mapping[str, CorrectionFile]) -> None:
        self.path, self._entries = path, entries
        self.digests = {name: file.digest for name, file in opened.items()}
        self.files = [file.path for file in opened.values()]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Corrections:
        """Read the YAML file of an era, and the files that it names.

        Raises
        ------
        ConfigError
            A file cannot be read or found, or has no such correction; the message has the line.
        """
        document = Document.read(path)
        schema = {
            "type": "object",
            "properties": {"jets": json_schema(JetEntry)},
            "additionalProperties": json_schema(Entry),
        }
        entries: dict[str, Any] = {}
        opened: dict[str, CorrectionFile] = {}
        for key, data in checked(document, schema).items():
            entry: Any = build(JetEntry if key == "jets" else Entry, data)
            place = f"{document.where(key)}: {key}"
            file = _open(find_file(entry.file, Path(path).parent, place))
            opened[entry.file] = file
            try:
                if isinstance(entry, JetEntry):
                    entries[key] = _checked(JetCorrections(file, entry, place))
                else:
                    entries[key] = VariedCorrection(file[entry.name], entry, place)
            except ConfigError as problem:
                text = str(problem)
                raise ConfigError(text if text.startswith(place) else f"{place}: {text}") from None
        return cls(Path(path), entries, opened)

    @property
    def names(self) -> list[str]:
        """The entries."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._entries:
            raise ConfigError(
                f"{self.path}: has no corrections named {name}.{did_you_mean(name, self.names)} "
                f"It has: {', '.join(self.names) or 'none'}."
            )
        return self._entries[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._entries})


def files_beside(path: Path) -> list[Path]:
    """The files that the YAML file of an era names by paths relative to itself; the others are on CVMFS or in the network."""
    entries = Document.read(path).data
    names = (
        [entry.get("file") for entry in entries.values() if isinstance(entry, dict)]
        if isinstance(entries, dict)
        else []
    )
    found = [path.parent / name for name in names if isinstance(name, str) and "://" not in name]
    return list(dict.fromkeys(file for file in found if file.is_file()))


def write_flat(path: Path, directory: Path, name: str) -> list[str]:
    """Write the YAML file of an era as `name` into a directory, with copies of the files that are only here.

    Those on CVMFS and in the network are read where they are. Returns the names of what was written.
    """
    document, written = Document.read(path), [name]
    content = {key: dict(entry) for key, entry in document.data.items()}
    for number, (key, entry) in enumerate(content.items()):
        file = find_file(entry["file"], path.parent, f"{document.where(key)}: {key}")
        if "://" in entry["file"] or file.is_relative_to("/cvmfs"):
            continue
        entry["file"] = f"corrections_{number}_{file.name}"
        with replacing(directory / entry["file"]) as aside:
            shutil.copy(file, aside)
        written.append(entry["file"])
    write_text(directory / name, json.dumps(content, indent=1) + "\n")  # JSON is YAML
    return written


@functools.lru_cache(maxsize=8)
def read_once(path: str) -> Corrections:
    """`Corrections.read`, of which the result is kept: a selection asks for it again with each chunk of events."""
    return Corrections.read(path)


def find_file(name: str, base: Path, place: str) -> Path:
    """A file of corrections.

    Parameters
    ----------
    name
        A URL; or a path, relative to `base`, to the directory in the environment variable NANOML_CORRECTIONS, or to one of
        CMS's directories on CVMFS.
    base
        A directory.
    place
        Where the name stands, for messages.

    Raises
    ------
    ConfigError
        There is no such file.
    """
    if "://" in name:
        return _downloaded(name)
    roots = [base, *map(Path, filter(None, [os.environ.get("NANOML_CORRECTIONS")])), *map(Path, CVMFS)]
    found = next(
        (root / os.path.expanduser(name) for root in roots if (root / os.path.expanduser(name)).is_file()), None
    )
    if found is None:
        raise ConfigError(
            f"{place}: there is no file {name} in {', '.join(map(str, roots))}. Where CVMFS is not mounted, copy the files, and "
            "name their directory in the environment variable NANOML_CORRECTIONS."
        )
    return found


def _downloaded(url: str) -> Path:
    """A copy of a file of the network, which stays in the cache."""
    target = cache_directory() / "corrections" / url.replace("://", "/").lstrip("/")
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as aside:
        if is_xrootd(url):
            with RemoteFile(url) as file:
                file.copy(aside)
        else:
            try:
                with urllib.request.urlopen(url, timeout=60) as answer, aside.open("wb") as output:
                    shutil.copyfileobj(answer, output)
            except (OSError, ValueError) as problem:
                raise explain_os_error(problem, url, "download") from None
    return target


@functools.lru_cache(maxsize=32)
def _open(path: Path) -> CorrectionFile:
    return CorrectionFile(path)


def _checked(jets: JetCorrections) -> JetCorrections:
    """Look everything up once, so that a wrong name is an error at the start."""
    for first, _ in jets.data_ranges():
        jets.scale(True, first)
    jets.scale(False)
    for source in jets.entry.sources:
        jets.uncertainty(source)
    if jets.entry.jer is not None:
        assert jets.resolution
        assert jets.resolution_ratio
    return jets
