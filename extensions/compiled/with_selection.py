"""A model with its selection inside: it reads the branches of NanoAOD, and decides, computes and scores in one graph."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx

from MLTools.NanoML.atomic import file_hash, replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.agreement import Sample, check_agreement, prepared
from MLTools.NanoML.extensions.compiled.requests import Compilation, Source
from MLTools.NanoML.extensions.compiled.tracing.events import EVENTS
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Value
from MLTools.NanoML.extensions.compiled.tracing.network import joined, network_inputs
from MLTools.NanoML.extensions.compiled.tracing.selection import Branches, TracedSelection
from MLTools.NanoML.extensions.compiled.tracing.trace import dtype_of
from MLTools.NanoML.model import Description, Input, Model, ObjectInput, Reference, twin_of, write_described
from MLTools.NanoML.model.entries import Domain, MadeCollection, MadeNumber, SelectionInside
from MLTools.NanoML.model.inside import EXACT
from MLTools.NanoML.nanoaod.accounting import is_simulation
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Column, Selection, load_selection
from MLTools.NanoML.terminal.progress import say

_TRACED = 500  # events with which the selection runs while it is compiled: their types matter, not their number

_DEPENDS = ("era", "is_data", "triggers")  # what a file with all datasets of an era may depend on


def export_with_selection(model: Path, output: Path, sources: Sequence[Source], wanted: Compilation) -> dict[str, Any]:
    """Write a model with its selection inside, and its description beside it.

    Parameters
    ----------
    model
        The model, whose columns the selection makes or the files have.
    output
        The ONNX file with both.
    sources
        The datasets, of one era, and all data or all simulation.
    wanted
        The selection.

    Returns
    -------
    The metadata, as in the JSON beside the file.

    Raises
    ------
    NanoMLError
        The selection cannot be compiled (with the line), the graph gives other results than the selection, or awkward is too old.
    """
    if [int(part) for part in ak.__version__.split(".")[:2]] < [2, 5]:  # its functions do not ask an array for its own
        raise NanoMLError(
            f"a selection is compiled with awkward 2.5 or newer, here is {ak.__version__}: pip install -U awkward"
        )
    networks = Model(model)
    description = networks.description
    if description.level == "object":
        raise NanoMLError(
            f"{model}: scores objects. A selection can be put into a model of events only: export.selection: false."
        )
    selection = load_selection(wanted.selection, wanted.base)
    cut = Formula(wanted.cut) if wanted.cut else None
    every = [first_events(selection, cut, description, source, wanted.events) for source in sources]
    samples = [_fitting(each, wanted.sizes) for each in every]
    sizes = {**_sizes(samples), **wanted.sizes}
    traced = _traced(selection, samples, sizes)
    columns, objects = _model_columns(description, traced)
    given = None
    if description.parameter is not None:  # after all branches: it is the last column
        given = traced.inputs.event(description.parameter.column, np.dtype(np.float64)).numbers
    feeds = network_inputs(description, traced.graph, columns, objects, traced.passed, given)
    graph, used = traced.model(traced.outputs(), tuple(feeds.values()))
    about = _describe(description, selection, samples, traced, used, wanted, _domain(description, objects))
    whole = joined(graph, onnx.load(model), description, about, {name: each.name for name, each in feeds.items()})
    _refuse_large(used, samples, traced)
    room = ", ".join(f"{number} of {name}" for name, number in sizes.items()) or "numbers of events"
    total, crowded = (sum(map(len, every)) - left for left in (0, sum(map(len, samples))))
    more = f"{crowded:,} of {total:,} events have more, and cannot be decided" if crowded else "no event has more"
    say(f"export: {output.name}: {len(graph.graph.node)} nodes, room for {room}; {more}.")
    with replacing(output) as aside, replacing(twin_of(output)) as twin:
        _save(whole, about, aside)
        compared = check_agreement(Model(aside), traced, networks, samples)
        assert about.inside is not None
        about = replace(about, inside=replace(about.inside, events=compared.events), reference=compared.reference)
        metadata = {**_save(whole, about, aside), "onnx_sha256": file_hash(aside)}
        twin.write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    passed = "" if sources[0].dataset.is_data else f", of which {compared.passed} pass"  # data may be blind
    say(f"export: {output} agrees with {selection.name}: {compared.events} events{passed}; {compared}.")
    return metadata


def _save(model: onnx.ModelProto, about: Description, path: Path) -> dict[str, object]:
    """Write a model that describes itself; return its metadata."""
    metadata = about.to_json()
    write_described(model, json.dumps(metadata, allow_nan=False), path)
    return metadata


def first_events(
    selection: Selection, cut: Formula | None, description: Description, source: Source, events: int
) -> Sample:
    """The first events of a dataset, with what the selection and the model read of them."""
    info = source.dataset
    chosen = selection.of_dataset(info)
    made = {*selection.columns, *chosen.made.described}
    parts: list[dict[str, object]] = []
    collections: dict[str, str] = {}
    left = events
    for path in source.files:
        if left <= 0:
            break
        with RootFile(path) as file:
            if is_simulation(file) == bool(info.is_data):
                raise NanoMLError(
                    f"{path}: is {'simulation' if info.is_data else 'data'}, unlike the dataset {info.name}."
                )
            bound = chosen.bind(file.branches, path)
            names = {**(cut.resolve(file.branches, path) if cut else {}), **bound.names}
            for name in [*description.reads, *versions.IDENTIFIERS]:
                if name not in made and name not in names:
                    actual = versions.resolve(name, file.branches)
                    if actual is None:
                        raise NanoMLError(f"{path}: has no branch {name}, which the model reads.")
                    names[name] = actual
            jagged = {name: it for name, actual in names.items() if (it := file.branches[actual]).is_jagged}
            collections |= bound.collections | {name: it.collection or "" for name, it in jagged.items()}
            arrays = file.read(list(dict.fromkeys(names.values())), 0, left)
            parts.append({name: arrays[actual] for name, actual in names.items()})
            left -= len(next(iter(arrays.values())))
    common = [name for name in parts[0] if all(name in part for part in parts)]
    arrays = {name: ak.concatenate([part[name] for part in parts]) for name in common}
    found = prepared(chosen, arrays, {name: each for name, each in collections.items() if name in arrays}, cut)
    raw = sorted(found.corrected & set(cut.branches)) if cut else []
    if cut and raw:
        raise NanoMLError(
            f'cut "{cut.text}": takes {raw[0]} before its correction, but the model has the corrected one: cut on it in `select`.'
        )
    return found


def _fitting(sample: Sample, sizes: Mapping[str, int]) -> Sample:
    """The events that there is room for, where that is set: the model flags the others."""
    fits = np.ones(len(sample), bool)
    for name, collection in sample.collections.items():
        if collection in sizes:
            fits &= np.asarray(ak.num(sample.arrays[name])) <= sizes[collection]
    return sample.only(fits)


def _sizes(samples: Sequence[Sample]) -> dict[str, int]:
    """Room for all objects of the samples, and for a quarter or two more."""
    most: dict[str, int] = {}
    for sample in samples:
        for name, collection in sample.collections.items():
            if len(sample.arrays[name]):
                most[collection] = max(most.get(collection, 0), int(ak.max(ak.num(sample.arrays[name])) or 0))
    return {name: number + max(2, math.ceil(number / 4)) for name, number in most.items()}


def _traced(selection: Selection, samples: Sequence[Sample], sizes: Mapping[str, int]) -> TracedSelection:
    first = samples[0]
    arrays = {name: each[:_TRACED] for name, each in first.arrays.items()}
    traced = TracedSelection(first.selection, arrays, first.collections, sizes, first.cut)
    # corrections are those of weights, which are not computed here
    unknown = traced.used_dataset - {*_DEPENDS, "corrections", "corrections_file"}
    if unknown:
        raise NanoMLError(
            f"{selection.where()}: `select` asks for {', '.join(f'self.dataset.{name}' for name in sorted(unknown))}, which a file "
            "with all datasets of an era cannot know. Let it depend on the era and on is_data only, or do it in `prepare`."
        )
    return traced


def _model_columns(description: Description, traced: TracedSelection) -> tuple[dict[str, Tensor], dict[str, Value]]:
    """The inputs of the model: columns of the selection, or branches."""
    columns = {}
    for name in description.columns:
        columns[name] = traced.columns[name] if name in traced.columns else traced.branch(name).numbers
    objects = {}
    for tensor in description.objects:
        for name in tensor.branches:
            objects[name] = traced.collections.get(name) or traced.branch(name)
    return columns, objects


def _refuse_large(used: Sequence[Branches], samples: Sequence[Sample], traced: TracedSelection) -> None:
    """Integers must be exact in float32."""
    for tensor in used:
        for name, dtype in zip(tensor.names, tensor.dtypes, strict=True):
            if np.dtype(dtype).kind not in "iu":
                continue
            for sample in samples:
                values = sample.arrays.get(name)
                largest = 0 if values is None or not len(values) else ak.max(abs(values), axis=None)
                if largest is not None and largest > EXACT:
                    number = traced.branch(name).numbers.name
                    lines = (
                        step.line for step in traced.trace.steps if step.value.data and step.value.data.name == number
                    )
                    raise NanoMLError(
                        f"{next(lines, traced.selection.where())}: {name} is as large as {largest}, but the input of a model is "
                        f"float32, which is exact up to {EXACT}. Let `select` do without it: for a map of bits, take a branch that has "
                        "one identification, as cutBased."
                    )


def _number(name: str, value: Any) -> float:
    if isinstance(value, (list, tuple)):
        raise NanoMLError(f"`select` uses {name}, whose default in `optional` is a list: a model only takes numbers.")
    return float(value)


def _numbers(declared: Mapping[str, Column]) -> tuple[MadeNumber, ...]:
    """Columns as the model describes them: in C++ each has a title, so that of a column without one is its name."""
    return tuple(MadeNumber(name, np.dtype(each.dtype).name, each.title or name) for name, each in declared.items())


def _domain(description: Description, objects: Mapping[str, Value]) -> Domain:
    """The domain of the networks, whose inputs the model gives beside its scores."""
    sizes = {it.tensor: min(it.max, max(objects[name].axis.size for name in it.branches)) for it in description.objects}
    return tuple(
        replace(it, tensor=f"read_{it.tensor}", mask=it.mask and f"read_{it.mask}", size=sizes.get(it.tensor, 0))
        for it in description.domain
    )


def _describe(
    description: Description,
    selection: Selection,
    samples: Sequence[Sample],
    traced: TracedSelection,
    used: Sequence[Branches],
    wanted: Compilation,
    domain: Domain,
) -> Description:
    info = samples[0].selection.dataset
    facts = replace(info, is_data=bool(info.is_data))
    depends = {name: getattr(facts, name) for name in _DEPENDS if name in traced.used_dataset}
    read = {name for each in used for name in each.names}
    corrected = tuple(sorted(read & {name for sample in samples for name in sample.corrected}))
    inside = SelectionInside(
        wanted.selection,
        {key: list(value) if isinstance(value, tuple) else value for key, value in depends.items()},
        traced.cuts,
        _numbers(selection.columns),
        tuple(
            MadeCollection(
                name, max(traced.collections[f"{name}_{field}"].axis.size for field in declared), _numbers(declared)
            )
            for name, declared in selection.collections.items()
        ),
        {name: _number(name, value) for name, value in samples[0].defaults.items() if name in read},
        corrected,
        info.digests if corrected else {},
        0,
    )
    arrays = samples[0].arrays

    def types(each: Branches) -> tuple[str, ...]:
        """The types in the files, where these are narrower."""
        found = (dtype_of(arrays[name]) if name in arrays else None for name in each.names)
        return tuple(dtype if known is None else known.name for dtype, known in zip(each.dtypes, found, strict=True))

    events = next((each for each in used if not each.collection), None)
    features = None if events is None else Input(EVENTS, events.names, types(events), None, ())
    objects = tuple(
        ObjectInput(it.collection, it.names, types(it), None, (), f"{it.collection}_mask", it.collection, it.size, None)
        for it in used
        if it.collection
    )
    mean = description.output_tensors[0]
    return replace(
        description,
        features=features,
        objects=objects,
        output_tensors=(mean, mean),
        inside=inside,
        reference=Reference({}, []),
        domain=domain,
    )
