"""A selection: the physics, written once, for every engine."""

from __future__ import annotations

import copy
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.dependencies import files_behind, source_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.loading import load_module
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.fileaccounting import weight_column
from MLTools.NanoML.nanoaod.weights import Weight
from MLTools.NanoML.observing import register
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Array, Arrays, default
from MLTools.NanoML.selection.columns import Column, MadeColumns, checked, explain
from MLTools.NanoML.selection.cutflow import Cutflow
from MLTools.NanoML.selection.selected import DatasetInfo, Selected, Shift, each_shift
from MLTools.NanoML.selection.shifts import CheckpointCutflow, Ways, select_under_shifts, weighed_before_cuts


class UncountedError(NanoMLError):
    """A selection left out events by something else than a cut."""


class Selection:
    """Base class of all selections.

    A selection declares what it reads and what it makes, and has one method, `select`::

        class DiMuon(Selection):
            \"\"\"Two muons of opposite charge.\"\"\"

            branches = ("Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge")
            optional = {"HLT_Mu50": False}
            columns = {"DiMuon_mass": Column("f4", "mass of the two muons [GeV]")}

            def select(self, events, cutflow):
                muons = events.Muon[events.Muon.pt > 20]
                events, muons = cutflow.cut("two muons", ak.num(muons) == 2, events, muons)
                events, muons = cutflow.cut("opposite charge", ak.sum(muons.charge, axis=1) == 0, events, muons)
                return events, {"DiMuon_mass": (muons[:, 0] + muons[:, 1]).mass}

    Attributes
    ----------
    branches
        Names of the branches that `select` reads; wildcards are allowed ("Muon_*").
    simulated
        Names of the branches that it reads in simulation only, because data do not have them.
    optional
        Branches that a file may lack, with the value to take then: of each event, of each object if other branches of a
        collection are read, or a list for each event, as `[]` for LHEScaleWeight.
    columns
        The columns that `select` returns, with one number for each event.
    collections
        The collections of objects that it returns, by name, each with its columns: `{"GoodJet": {"pt": Column(...)}}`. They
        become branches GoodJet_pt, ... with the counter nGoodJet. What is returned for one are objects with these fields, as
        `events.Jet[mask]` or `events.flat("Jet")`, or a dictionary of lists.
    weights
        The weights that `select` gives to events of simulation by `cutflow.weigh`.
    shifts
        The shifts of objects in simulation, with their directions: `{"jes": UP_DOWN}`. `select` runs under each as well.
    dataset
        The dataset whose events are selected: its name, era, parameters and corrections, and whether it is data.
    """

    branches: ClassVar[Sequence[str]] = ()
    simulated: ClassVar[Sequence[str]] = ()
    optional: ClassVar[Mapping[str, object]] = {}
    columns: ClassVar[Mapping[str, Column]] = {}
    collections: ClassVar[Mapping[str, Mapping[str, Column]]] = {}
    weights: ClassVar[Mapping[str, Weight]] = {}
    shifts: ClassVar[Mapping[str, Sequence[str]]] = {}
    dataset: DatasetInfo = DatasetInfo()

    def prepare(self, events: Events) -> Events:
        """Corrections of objects, before `select`: the events with other values of some branches (`events.replaced`)."""
        return events

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """The events under a shift of objects: with other values of some branches (`events.replaced`).

        Parameters
        ----------
        events
            The events as `prepare` returned them.
        name, direction
            One of `shifts`, and one of its directions: "up" or "down".
        """
        raise NanoMLError(
            f"`shifts` declares {name}, but there is no method `shift`. Write `def shift(self, events, name, direction)`."
        )

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, Mapping[str, object]]:
        """Cut and compute; to be written by the user.

        Parameters
        ----------
        events
            A chunk of events, with the declared branches.
        cutflow
            Applies and counts the cuts.

        Returns
        -------
        The events that are left, and the declared columns for them.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    def of_dataset(self, dataset: DatasetInfo) -> Selection:
        """The same selection for the events of a dataset."""
        found = copy.copy(self)
        found.dataset = dataset
        found.__dict__.pop("made", None)  # data have no shifts
        return found

    def file(self, path: str | os.PathLike[str]) -> str:
        """The path of a file that a compiled library opens, relative to the selection: if the file changes, the skim is made again.

        Files that Python opens count without this; ONNX Runtime, correctionlib, h5py and ROOT open files themselves.
        """
        found = os.path.join(os.path.dirname(os.path.abspath(inspect.getfile(type(self)))), path)
        register(found)
        return found

    @property
    def each_shift(self) -> list[Shift]:
        """The shifts under which its events are selected: none in data."""
        return [] if self.dataset.is_data else list(each_shift(self.shifts))

    @cached_property
    def made(self) -> MadeColumns:
        """The columns that it makes; an error if it declares something else than a `Column`."""
        declared = [("columns", *each) for each in self.columns.items()]
        declared += [("collections", *each) for fields in self.collections.values() for each in fields.items()]
        for attribute, name, column in declared:
            if not isinstance(column, Column):
                raise NanoMLError(
                    f"{self._declaration(attribute, name)}: {self.name}: `{attribute}` declares {name} by {column!r}. "
                    'Write Column("f4", "what it is [unit]").'
                )
        return MadeColumns.of(self.columns, self.collections, self.weights, self.each_shift)

    def where(self) -> str:
        """File and line of `select`, for messages."""
        method = inspect.unwrap(type(self).select)
        return f"{inspect.getsourcefile(method)}:{method.__code__.co_firstlineno}: {self.name}"

    def _declaration(self, attribute: str, name: str) -> str:
        """File and line of a name in an attribute of the class."""
        owner = next(each for each in type(self).__mro__ if attribute in vars(each))
        with suppress(OSError, TypeError):  # there is no source code
            lines, first = inspect.getsourcelines(owner)
            begin = next((place for place, line in enumerate(lines) if line.strip().startswith(attribute)), 0)
            named = (
                place for place, line in enumerate(lines) if place >= begin and re.search(rf"['\"]{name}['\"]", line)
            )
            return f"{inspect.getsourcefile(owner)}:{first + next(named, begin)}"
        return self.where()

    def _line_of(self, problem: BaseException) -> str:
        """The innermost line of the selection's own files in a traceback."""
        frames = inspect.getinnerframes(problem.__traceback__) if problem.__traceback__ else []
        own = set(files_behind(source_of(self), only_own=True).values())
        found = [
            f"{frame.filename}:{frame.lineno}"
            for frame in frames
            if Path(frame.filename).resolve() in own and frame.function != "apply"
        ]
        return found[-1] if found else self.where().rpartition(":")[0]

    def resolve(self, available: Sequence[str], path: str) -> dict[str, str]:
        """For each name in `branches`, `simulated` and `optional`, the name in a file, as far as the file has it.

        Raises NanoMLError if the file at `path` lacks branches that are not optional; each is named.
        """
        found: dict[str, str] = {}
        missing = []
        needed = [*self.branches, *(() if self.dataset.is_data else self.simulated)]
        for wanted in (*needed, *self.optional):
            if versions.is_glob(wanted) and wanted in needed:
                matches = {name: name for name in versions.expand(wanted, available)}
            else:
                actual = versions.resolve(wanted, available)
                matches = {wanted: actual} if actual else {}
            found.update(matches)
            if not matches and wanted not in self.optional:
                missing.append(wanted)
        fired = {name: name for name in self.dataset.triggers if name in available}
        if self.dataset.triggers and not fired:
            names = ", ".join(self.dataset.triggers)
            raise NanoMLError(
                f"{path}: has none of the triggers of dataset {self.dataset.name}: {names}."
                f"{versions.did_you_mean(self.dataset.triggers[0], available)}"
            )
        found.update(fired)
        if missing:
            hints = "".join(versions.did_you_mean(name, available) for name in missing)
            raise NanoMLError(
                f"{path}: selection {self.name} reads branches that this file lacks: {', '.join(missing)}.{hints} "
                f"If it can do without them, declare them in {self.name}.optional with a default."
            )
        return found

    def bind(self, branches: Mapping[str, Branch], path: str) -> BoundSelection:
        """The selection with the branches of a file; raises as `resolve` does."""
        names = self.resolve(list(branches), path)
        found = {name: branches[actual] for name, actual in names.items()}
        collections = {name: branch.collection or "" for name, branch in found.items() if branch.is_jagged}
        return BoundSelection(self, names, collections)

    def apply(
        self,
        arrays: Arrays,
        collections: Mapping[str, str],
        weights: NDArray[np.float64],
        plain: bool = False,
        count: bool = False,
        ways: Ways | None = None,
    ) -> Selected:
        """Run `select` on a chunk and check what it returns; a mistake is explained, with file and line.

        `arrays` are the branches by their declared names, `collections` those of the jagged ones, and `weights` the generator
        weights of the events (1 in data). If `plain`, the weights that `select` gives are not computed, and it runs under no
        shift. With `count`, the cut flow has the candidates of efficiencies. `ways` keeps for the next chunk of a file how to go on
        under shifts.
        """
        events = Events(*self.with_optional(arrays, collections, len(weights)), self.where())
        wanted = () if plain else self.each_shift
        weighs = not (plain or self.dataset.is_data)
        cutflow = (CheckpointCutflow if wanted else Cutflow)(weights, self.weights, weighs, count)
        with self._explained():
            if self.dataset.triggers:
                paths = [np.asarray(events[name], bool) for name in self.dataset.triggers if name in arrays]
                fired = np.any(paths, axis=0)
                unfired, events = events[~fired], cutflow.cut("trigger", fired, events)
            events = self._events("prepare", self.prepare(events))
            shifted = {each: self._events("shift", self.shift(events, each.name, each.direction)) for each in wanted}
        if isinstance(cutflow, CheckpointCutflow):
            selected = select_under_shifts(
                self._select, events, cutflow, shifted, self.made.varied, {} if ways is None else ways
            )
        else:
            selected = self._select(events, cutflow)
        if self.dataset.triggers and weighs and selected.cutflow.weighs_after_first_cut:
            # what `select` weighs before its first cut, it weighs in all events
            with self._explained(), np.errstate(divide="ignore", invalid="ignore"):
                dropped = weighed_before_cuts(self.select, self.prepare(unfired), weights[~fired], self.weights)
            for each in (selected.cutflow, *selected.shifts.values()):
                each.count_dropped(dropped, ~fired)
        return selected

    def with_optional(
        self, arrays: Arrays, collections: Mapping[str, str], events: int
    ) -> tuple[Arrays, dict[str, str]]:
        """The branches with the optional ones that are lacking, and the collections of those that are lists."""
        beside, made, lists = {collection: arrays[name] for name, collection in collections.items()}, {}, {}
        for name in (name for name in self.optional if name not in arrays):
            alone = versions.collection_of(name, None, ())
            collection = next((each for each in beside if name.startswith(f"{each}_")), alone)
            made[name] = default(self.optional[name], events, beside.get(collection))
            if made[name].ndim > 1:
                lists[name] = collection
        return {**arrays, **made}, {**collections, **lists}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Explains a mistake in the user's code, with file and line."""
        try:
            yield
        except NanoMLError as problem:
            text = str(problem)
            is_placed = text.startswith(self.where())
            raise NanoMLError(text if is_placed else f"{self._line_of(problem)}: {self.name}: {text}") from None
        except Exception as problem:  # a user's code may raise anything; its line helps
            raise NanoMLError(f"{self._line_of(problem)}: {self.name}: {explain(problem)}") from problem

    def _events(self, method: str, events: object) -> Events:
        if not isinstance(events, Events):
            raise NanoMLError(f"{method} returned no events. End it with `return events.replaced(...)`.")
        return events

    def _select(self, events: Events, cutflow: Cutflow) -> Selected:
        """Run `select` on prepared events and check what it returns."""
        # what is not finite in a column is told, and what select itself has replaced is nobody's concern
        with self._explained(), np.errstate(divide="ignore", invalid="ignore"):
            result = self.select(events, cutflow)
        if result is None:
            raise NanoMLError(f"{self.where()}: select returned nothing. End it with `return events, {{...}}`.")
        is_pair = isinstance(result, tuple) and len(result) == 2
        if not (is_pair and isinstance(result[0], Events) and isinstance(result[1], Mapping)):
            raise NanoMLError(
                f"{self.where()}: select returned {type(result).__name__}, not the events and a dictionary of columns: "
                "end it with `return events, {...}`."
            )
        left, columns = result
        if cutflow.steps[-1].events != len(left):
            raise UncountedError(
                f"{self.where()}: {cutflow.steps[-1].events} events passed the last cut, but {len(left)} were kept. Narrow the "
                "events by cutflow.cut only, and take what it returns: events = cutflow.cut(name, mask, events)."
            )
        try:
            made = checked(columns, self.columns, self.collections, len(left), cutflow.beside)
        except NanoMLError as problem:
            raise NanoMLError(f"{self.where()}: {problem}") from None
        return Selected(left.rows, {**made, **self._weights(cutflow)}, cutflow)

    def _weights(self, cutflow: Cutflow) -> dict[str, Array]:
        """The columns of the weights, of which all must have been given."""
        found = cutflow.columns
        missing = [name for name in self.weights if weight_column(name) not in found]
        if missing:
            raise NanoMLError(
                f"{self.where()}: select gave no weight {missing[0]}: cutflow.weigh({missing[0]!r}, ...)."
            )
        return found


@dataclass(frozen=True)
class BoundSelection:
    """A selection, and where it finds its branches in a file."""

    selection: Selection
    names: dict[str, str]  # name in the selection to name in the file; only the branches that the file has
    collections: dict[str, str]  # those of the names that are lists, with their collections
    ways: Ways = field(default_factory=dict)  # how its events are selected under shifts

    @property
    def branches(self) -> list[str]:
        """The branches that are read from the file."""
        return list(dict.fromkeys(self.names.values()))

    @property
    def absent(self) -> list[str]:
        """The trigger bits that the file lacks: events count as if these had their defaults."""
        wanted = dict.fromkeys([*self.selection.dataset.triggers, *self.selection.optional])
        return [name for name in wanted if name.startswith(versions.TRIGGERS) and name not in self.names]

    def apply(self, arrays: Arrays, weights: NDArray[np.float64], plain: bool = False, count: bool = False) -> Selected:
        """As `Selection.apply`, with the arrays by their names in the file."""
        given = {name: arrays[actual] for name, actual in self.names.items()}
        return self.selection.apply(given, self.collections, weights, plain, count, self.ways)


def load_selection(spec: str, base: str | os.PathLike[str] = ".") -> Selection:
    """Find a selection by "module:Class" or "file.py:Class".

    A file is relative to the directory `base`; a module is looked for on the import path and in `base`. Raises ConfigError if
    there is no such module, file or class, or it is not a selection.

    Examples
    --------
    >>> load_selection("examples/wz.py:WZ").name
    'WZ'
    """
    place, _, attribute = spec.rpartition(":")
    if not place or not attribute:
        raise ConfigError(f'selection "{spec}": write it as module:Class or file.py:Class.')
    module = load_module(f'selection "{spec}"', place, "nanoml_selection", base)
    found = getattr(module, attribute, None)
    known = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Selection) and value is not Selection
    ]
    if found is None:
        raise ConfigError(
            f'selection "{spec}": {place} has no class {attribute}.{versions.did_you_mean(attribute, known)} '
            f"It has: {', '.join(known) or 'no selection'}."
        )
    if not (inspect.isclass(found) and issubclass(found, Selection)):
        raise ConfigError(
            f'selection "{spec}": {attribute} is not a class made from MLTools.NanoML.selection.selection.Selection.'
        )
    return found()
