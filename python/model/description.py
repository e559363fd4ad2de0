"""How a model describes itself: what it reads, in which order and form, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.entries import Discriminant, Domain, KnownTensor, SelectionInside
from MLTools.NanoML.model.file import KEY
from MLTools.NanoML.schema.plain import DAMAGE, build, parsed

SCHEMA = 2
"""The schema of the metadata as they are written; 1, which had no discriminants, is read as well."""

WITH_SELECTION = 3
"""The schema of a model that has its selection inside."""

WITH_HEADS = 4
"""The schema of a model whose networks have further heads, which a program that knows none would take for something else."""

CLASSES, TARGETS, RATIOS = "classes", "targets", "ratios"
"""The heads that NanoML knows: logits of the classes, estimates, and what variations make of densities. Others are a user's own."""

LEVELS = ("event", "object")
_INPUT = ("tensor", "mask", "collection", "columns", "dtypes", "max", "order", "selection", "selection_columns")


@dataclass(frozen=True)
class Input:
    """A tensor with numbers for each event (or for each object, in a model of objects).

    Attributes
    ----------
    tensor
        Its name.
    columns
        Its columns, in the order of its last axis.
    dtypes
        Types of the columns in the files.
    selection
        The selection that makes the `selection_columns`, as "module:Class"; None without one.
    selection_columns
        The columns that are not branches of NanoAOD.
    """

    tensor: str
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    selection: Optional[str]
    selection_columns: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Its entry in the metadata."""
        content = asdict(self)
        return {key: content[key] for key in _INPUT if key in content}


@dataclass(frozen=True)
class ObjectInput(Input):
    """A tensor of the objects of each event, shape (events, objects, columns), and its mask.

    Attributes
    ----------
    mask
        Name of the tensor with 1 for an object and 0 for padding, shape (events, objects).
    collection
        Prefix of its branches.
    max
        Largest number of objects.
    order
        Field by which they are sorted, "-pt" for descending; None for the file's order.
    """

    mask: str
    collection: str
    max: int
    order: Optional[str]

    @property
    def order_branch(self) -> Optional[str]:
        """Branch by which they are sorted."""
        return f"{self.collection}_{self.order.lstrip('-')}" if self.order else None

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return bool(self.order and self.order.startswith("-"))

    @property
    def branches(self) -> list[str]:
        """All branches that must be read."""
        return list(dict.fromkeys([*self.columns, *([self.order_branch] if self.order_branch else [])]))


@dataclass(frozen=True)
class Parameter:
    """A number that the user gives, such as the mass of a hypothetical particle.

    Attributes
    ----------
    column
        Its name: the last column of `features`.
    values
        The values in the training.
    only
        Whether the model knows no other values: trees do not interpolate.
    """

    column: str
    values: tuple[float, ...]
    only: bool = False


@dataclass(frozen=True)
class Head:
    """Outputs that networks have beside their classes, or beside the targets of a regression.

    Attributes
    ----------
    name
        Its name: "targets" for estimates, or an auxiliary head.
    outputs
        Names of its outputs.
    """

    name: str
    outputs: tuple[str, ...]

    def meaning(self, output: str) -> str:
        """The meaning of one of its outputs."""
        return f"estimate of {output}" if self.name == TARGETS else f"output of the head {self.name}"


@dataclass(frozen=True)
class ModelFormat:
    """The releases for which a model file was written.

    Attributes
    ----------
    cmssw
        Name of the CMSSW release, or None.
    onnxruntime
        Its version of ONNX Runtime, or None if it is not known.
    opset, ir
        Versions of the operators and of the file format.
    """

    cmssw: Optional[str]
    onnxruntime: Optional[str]
    opset: Optional[int]
    ir: Optional[int]


@dataclass(frozen=True)
class Reference:
    """Real events that a model carries, and the outputs that it must give for them.

    Attributes
    ----------
    inputs
        The numbers of each tensor, as nested lists.
    outputs
        The mean output, as nested lists of shape (events, outputs); empty without events.
    """

    inputs: dict[str, Any]
    outputs: list[list[float]]


@dataclass(frozen=True)
class Description:
    """How a model describes itself: the content of its metadata, and of its JSON twin.

    Attributes
    ----------
    name
        Name of the model; its scores are branches NAME_CLASS and NAME_DISCRIMINANT.
    level
        "event" or "object".
    collection
        The collection whose objects a model of objects scores.
    features
        Numbers of each event or object; None if there are none.
    objects
        Collections of objects.
    output_tensors
        Names of the outputs: the mean over all networks, and each network's. A model with its selection inside has one output,
        twice here: of the network of the fold that is given, or the mean.
    kind
        "classes" (the outputs are probabilities) or "targets" (of a regression).
    outputs
        Names of the classes or targets, in order.
    discriminants
        The discriminants, whose columns come after those of the classes.
    folds
        Number of networks.
    fold_rule
        How an event's fold follows from its run, luminosity block and number.
    parameter
        The parameter, or None.
    format
        The release for which the file was written.
    training
        The origin of the model, as in training.json.
    reference
        Events with which it can be verified.
    inside
        The selection in front of the networks; None if it has none.
    heads
        Further heads, whose columns come last.
    domain
        The values of the inputs of the networks in the training; with a selection inside, their tensors are outputs.
    """

    name: str
    level: str
    collection: Optional[str]
    features: Optional[Input]
    objects: tuple[ObjectInput, ...]
    output_tensors: tuple[str, str]
    kind: str
    outputs: tuple[str, ...]
    discriminants: tuple[Discriminant, ...]
    folds: int
    fold_rule: str
    parameter: Optional[Parameter]
    format: ModelFormat
    training: dict[str, Any]
    reference: Reference
    inside: Optional[SelectionInside] = None
    heads: tuple[Head, ...] = ()
    domain: Domain = ()

    @classmethod
    def of_text(cls, text: str, path: str) -> Description:
        """Read the metadata of the model at `path`. Raises NanoMLError if the text cannot be understood, or is of a newer schema."""
        try:
            content = parsed(text)
            schema = content["schema"]
            if schema in (1, SCHEMA, WITH_SELECTION, WITH_HEADS):
                return _read(content)
        except DAMAGE as problem:
            raise NanoMLError(
                f"{path}: its `{KEY}` metadata cannot be understood ({type(problem).__name__}: {problem}). Export it again."
            ) from None
        raise NanoMLError(
            f"{path}: schema {schema}, this NanoML reads 1 to {WITH_HEADS}. Update NanoML, or export it again."
        )

    def to_json(self) -> dict[str, Any]:
        """The metadata, as they are written."""
        names: dict[str, object] = {self.kind: list(self.outputs)}
        if self.kind == "classes":
            names["discriminants"] = [asdict(each) for each in self.discriminants]
        if self.heads:
            names["heads"] = [asdict(each) for each in self.heads]
        mean, each = self.output_tensors
        if self.inside is not None:
            plain = replace(self, inside=None).to_json()
            return {
                **plain,
                "schema": WITH_HEADS if self.heads else WITH_SELECTION,
                "outputs": plain["outputs"][:1],
                "selection": asdict(self.inside),
            }
        return {
            "schema": WITH_HEADS if self.heads else SCHEMA,
            "name": self.name,
            "level": self.level,
            "collection": self.collection,
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [{"tensor": mean, **names}, {"tensor": each, **names, "folds": self.folds}],
            "parameter": self.parameter and asdict(self.parameter),
            "target": asdict(self.format),
            "folds": {"k": self.folds, "hash": self.fold_rule},
            "training": self.training,
            "reference": asdict(self.reference),
            "domain": [asdict(each) for each in self.domain],
        }

    @property
    def inputs(self) -> tuple[Input, ...]:
        """All tensors with columns."""
        return (*((self.features,) if self.features else ()), *self.objects)

    @property
    def regions(self) -> list[str]:
        """The regions whose events the networks were trained on; none for all events."""
        config = self.training.get("config")
        return list(config.get("regions") or ()) if isinstance(config, Mapping) else []

    @property
    def output_columns(self) -> list[str]:
        """Columns of both outputs: classes and discriminants, or targets; and those of further heads."""
        others = [name for head in self.heads for name in head.outputs]
        return [*self.outputs, *(each.name for each in self.discriminants), *others]

    @property
    def input_tensors(self) -> list[str]:
        """Names of all input tensors, in order."""
        names = [self.features.tensor] if self.features else []
        names += [name for tensor in self.objects for name in (tensor.tensor, tensor.mask)]
        return names + (["fold"] if self.inside else [])

    @property
    def columns(self) -> list[str]:
        """The columns of `features` that are read: all except the parameter."""
        given = self.parameter.column if self.parameter else None
        return [name for name in self.features.columns if name != given] if self.features else []

    @property
    def reads(self) -> list[str]:
        """All columns and branches that must be read."""
        return list(dict.fromkeys([*self.columns, *(name for it in self.objects for name in it.branches)]))

    @property
    def selection_columns(self) -> dict[str, str]:
        """Columns that a selection makes, and the selection."""
        return {column: str(tensor.selection) for tensor in self.inputs for column in tensor.selection_columns}


def _read(metadata: Mapping[str, Any]) -> Description:
    level, collection = str(metadata["level"]), metadata.get("collection")
    if level not in LEVELS or (level == "object") != (collection is not None):
        raise ValueError(f"level {level}, collection {collection}")
    inputs = [build(ObjectInput if "mask" in content else Input, content) for content in metadata["inputs"]]
    objects = tuple(tensor for tensor in inputs if isinstance(tensor, ObjectInput))
    events = [tensor for tensor in inputs if not isinstance(tensor, ObjectInput)]
    if len(events) > 1:
        raise ValueError(f"two tensors of events, {events[0].tensor} and {events[1].tensor}")
    features = events[0] if events else None
    mean, each = metadata["outputs"] * 2 if "selection" in metadata else metadata["outputs"]
    kind = "classes" if "classes" in mean else "targets"
    outputs = tuple(map(str, mean[kind]))
    parameter = metadata.get("parameter")
    if parameter is not None:
        parameter = build(Parameter, parameter)
        if features is None or features.columns[-1:] != (parameter.column,):
            raise ValueError(f"parameter {parameter.column} is not the last column")
    target, reference = metadata.get("target", {}), metadata.get("reference", {})
    made = Description(
        str(metadata["name"]),
        level,
        collection,
        features,
        objects,
        (str(mean["tensor"]), str(each["tensor"])),
        kind,
        outputs,
        _read_discriminants(mean["discriminants"], outputs) if kind == "classes" and metadata["schema"] > 1 else (),
        int(metadata["folds"]["k"]),
        str(metadata["folds"]["hash"]),
        parameter,
        ModelFormat(*(target.get(key) for key in ("cmssw", "onnxruntime", "opset", "ir"))),
        dict(metadata.get("training", {})),
        Reference(dict(reference.get("inputs", {})), list(reference.get("outputs", []))),
        build(SelectionInside, metadata["selection"]) if "selection" in metadata else None,
        tuple(build(Head, each) for each in mean.get("heads", ())),
        tuple(build(KnownTensor, each) for each in metadata.get("domain", ())),
    )
    if len(set(made.output_columns)) < len(made.output_columns):
        raise ValueError(f"outputs {', '.join(made.output_columns)}")
    return made


def _read_discriminants(content: Sequence[Mapping[str, object]], classes: Sequence[str]) -> tuple[Discriminant, ...]:
    found = tuple(map(Discriminant.of_json, content))
    names = [*classes, *(each.name for each in found)]
    for each in found:
        if names.count(each.name) > 1 or not set(each.shares) <= set(classes):
            raise ValueError(f"discriminant {each.name} of {', '.join(each.shares)}, classes {', '.join(classes)}")
    return found
