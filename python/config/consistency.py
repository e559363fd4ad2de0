"""Settings that contradict each other, or cannot work without another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from MLTools.NanoML.config.datasets import TIERS
from MLTools.NanoML.config.document import Problem
from MLTools.NanoML.config.schema import complaints, json_schema, suggestion
from MLTools.NanoML.config.training import MODELS, TUNABLE, Axis, Train
from MLTools.NanoML.contracts.hdf5 import RESERVED

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

_LARGEST = 3.4028235e38  # of float32


def contradictions(config: Config) -> list[Problem]:
    """All contradictions between settings that are valid by themselves."""
    checks = (
        _names, _catalogue, _skim, _objects, _data, _cross_sections, _parameters, _luminosity,
        _sections, _shuffle, _training, _per_object, _columns, _signal, _tune, _score,
    )  # fmt: skip
    return [problem for check in checks for problem in check(config)]


def _names(config: Config) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in config.datasets:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            problem = (
                f'differs from "{other}" only in upper and lower case, which not every disk tells apart. Rename one'
            )
            yield ("datasets", name), problem


def _catalogue(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        place = ("datasets", name)
        if not dataset.files and not dataset.das:
            problem = 'has no files. Add "files", as in "files: data/WZ/*.root", or "das" with a name of the catalogue'
            yield place, problem
        for number, text in enumerate(dataset.das):
            tier = text.rpartition("/")[2]
            if not any(fnmatchcase(known, tier) for known in TIERS):
                problem = f"{tier} is not NanoAOD. Take the dataset's NANOAOD or NANOAODSIM, or a USER one"
                yield (*place, "das", number), problem
        if dataset.instance and not dataset.das:
            yield (*place, "instance"), 'is of use with "das" only. Remove it'


def _skim(config: Config) -> Iterator[Problem]:
    skim = config.skim
    if skim and not (skim.selection or skim.modules or skim.cut or skim.certified):
        yield ("skim",), 'selects nothing. Give "selection", as in "selection: my_selection.py:DiMuon"'


def _objects(config: Config) -> Iterator[Problem]:
    for name, objects in config.convert.objects.items() if config.convert else ():
        if (objects.max is None) == (objects.quantile is None):
            problem = 'takes "max" or "quantile", one of them, as in "max: 6"'
            yield ("convert", "objects", name), problem


def _data(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        if dataset.is_data and dataset.cross_section is not None:
            problem = 'data has no cross section. Remove this or "data: true"'
            yield ("datasets", name, "cross_section"), problem
        if dataset.is_data and dataset.class_ is not None:
            yield ("datasets", name, "class"), 'data is not trained on. Remove this or "data: true"'


def _parameters(config: Config) -> Iterator[Problem]:
    features = config.convert.features if config.convert else []
    for name, dataset in config.datasets.items():
        for key, value in dataset.parameters.items():
            place = ("datasets", name, "parameters", key)
            if key in RESERVED:
                yield place, "every HDF5 file has a column of this name with another meaning. Rename it"
            elif key in features:
                yield place, "a feature has this name, too. Rename it, or take it out of convert.features"
            if not abs(value) <= _LARGEST:
                yield place, f"{value} is not a number that float32 can hold, as in 600"


def _cross_sections(config: Config) -> Iterator[Problem]:
    known = [name for name, dataset in config.datasets.items() if dataset.cross_section is not None]
    if not known:
        return
    which = "dataset" if config.train and config.train.per_object else "dataset with a class"
    for name in config.trained:
        if not config.datasets[name].is_data and config.datasets[name].cross_section is None:
            problem = f'missing, while "{known[0]}" has one. Give it for every {which}, or for none'
            yield ("datasets", name, "cross_section"), problem


def _luminosity(config: Config) -> Iterator[Problem]:
    if config.luminosity is not None:
        return
    for name, dataset in config.datasets.items():
        if dataset.cross_section is not None:
            problem = 'is of no use without a luminosity. Add it, in /fb, as in "luminosity: 59.8"'
            yield ("datasets", name, "cross_section"), problem
            return


def _sections(config: Config) -> Iterator[Problem]:
    if config.datasets:
        return
    for section in ("skim", "convert"):
        if getattr(config, section) is not None:
            yield (section,), 'there are no datasets to read. Add some under "datasets:"'
    if config.score is not None and config.score.files is None:
        yield ("score",), 'there is nothing to score. Add datasets or "score.files"'


def _shuffle(config: Config) -> Iterator[Problem]:
    if config.convert is None or config.convert.shuffle is None or not config.datasets:
        return
    if not config.trained:
        problem = 'takes the datasets with a class, and none has one. Remove this, or add "class: ..." to them'
        yield ("convert", "shuffle"), problem
    for name in config.datasets:
        if name.lower() == "all":
            problem = "the file of all datasets, which convert.shuffle makes, has this name. Rename it"
            yield ("datasets", name), problem


def _training(config: Config) -> Iterator[Problem]:
    train = config.train
    if train is None:
        return
    if train.model not in MODELS and ":" not in train.model:
        problem = f'"{train.model}" is not a model. {suggestion(train.model, MODELS)} Or give a module:Class of yours'
        yield ("train", "model"), problem
    if train.folds == 2:
        problem = (
            "2 is too few: one fold tests, one validates, the rest trains. Give 3 or more, or 1 for a single network"
        )
        yield ("train", "folds"), problem
    if train.files is not None:
        return
    if config.convert is None:
        yield ("train",), 'there is nothing to train on. Add a "convert" section or "train.files"'
    if train.per_object is not None:
        return
    if len(config.classes) < (1 if train.targets else 2):
        has = f'only "{config.classes[0]}" is given' if config.classes else "none is given"
        needed = "a class" if train.targets else "at least two classes"
        yield ("train",), f'takes {needed}, {has}. Add "class: ..." to the datasets to train on'


def _columns(config: Config) -> Iterator[Problem]:
    """The columns of the training must be converted; the training itself checks files that exist already."""
    train = config.train
    if train is None or train.files is not None or config.convert is None:
        return
    columns, fields, objects = config.convert.features, _fields(config), config.convert.objects
    parameters = {name for dataset in config.datasets.values() for name in dataset.parameters}
    named: list[tuple[tuple[str, ...], str, Iterable[str], str]] = []
    for setting, names, allowed, place in (
        ("features", train.features or (), [*columns, *parameters, *fields], "convert.features"),
        ("objects", train.objects or (), objects, "convert.objects"),
        ("targets", train.targets, columns, "convert.features"),
    ):
        named += [(("train", setting), name, allowed, place) for name in names]
    if train.decorrelate is not None:
        where, column = ("train", "decorrelate", "column"), train.decorrelate.column
        named.append((where, column, [*columns, *fields], "convert.features"))
    if train.parameter is not None:
        named.append((("train", "parameter"), train.parameter, parameters, "the parameters of a dataset"))
    for keys, name, known, place in named:
        if name not in known:
            yield keys, f'"{name}" is not in {place}. {suggestion(name, sorted(known))}'


def _fields(config: Config) -> list[str]:
    """The fields of the objects that are classified, by their full names."""
    per_object = config.train.per_object if config.train else None
    if per_object is None or config.convert is None or per_object.collection not in config.convert.objects:
        return []
    fields = config.convert.objects[per_object.collection].fields
    return [f"{per_object.collection}_{name}" for name in fields if name != per_object.label]


def _per_object(config: Config) -> Iterator[Problem]:
    train, place = config.train, ("train", "per_object")
    if train is None or train.per_object is None:
        return
    per_object = train.per_object
    for setting, what in (("objects", train.objects), ("targets", train.targets)):
        if what:
            yield (
                ("train", setting),
                "cannot be used with per_object: its networks read one object at a time, "
                "and tell classes apart. Remove one of them",
            )
    if config.evaluate is not None and config.evaluate.compare:
        problem = "compares events, but train.per_object trains on objects. Remove one of them"
        yield ("evaluate", "compare"), problem
    if len(per_object.classes) < 2:
        yield (*place, "classes"), 'takes at least two classes, as in "{prompt: [1, 15], fake: [0, 3, 4, 5]}"'
    owner: dict[int, str] = {}
    for name, values in per_object.classes.items():
        if not values:
            yield (*place, "classes", name), f"takes values of {per_object.label}, as in [1, 15]"
        for value in values:
            if owner.setdefault(value, name) != name:
                problem = f'{value} is of class "{owner[value]}" already. Take it out of one'
                yield (*place, "classes", name), problem
    if train.files is not None or config.convert is None:
        return
    objects = config.convert.objects
    if per_object.collection not in objects:
        problem = f'"{per_object.collection}" is not in convert.objects. {suggestion(per_object.collection, objects)}'
        yield (*place, "collection"), problem
    elif per_object.label not in objects[per_object.collection].fields:
        problem = f'"{per_object.label}" is not in convert.objects.{per_object.collection}.fields. Add it there'
        yield (*place, "label"), problem
    if not config.trained:
        yield ("train",), "there is nothing to train on: only simulation knows what its objects are"


def _signal(config: Config) -> Iterator[Problem]:
    train, classes = config.train, config.classes
    if train is None or train.signal is None:
        return
    if train.per_object is not None:
        classes = tuple(train.per_object.classes)
    if (train.files is None or train.per_object is not None) and train.signal not in classes:
        yield ("train", "signal"), f'"{train.signal}" is no class. {suggestion(train.signal, classes)}'


def _tune(config: Config) -> Iterator[Problem]:
    tune, train = config.tune, config.train
    if tune is None:
        return
    if train is None:
        yield ("tune",), 'there is no training whose settings could be searched. Add a "train" section'
    elif train.targets and tune.metric == "validation_auc":
        yield ("tune", "metric"), "a regression has no AUC. Use validation_loss"
    for name, axis in tune.space.items():
        where = ("tune", "space", name)
        if name not in TUNABLE and not name.startswith("options."):
            yield where, f"is no setting that can be searched. {suggestion(name, [*TUNABLE, 'options.NAME'])}"
            continue
        problems = list(_range(axis) if axis.choices is None else _choices(axis))
        yield from ((where, problem) for problem in problems)
        if not problems and not name.startswith("options."):
            yield from _values(name, axis)


def _score(config: Config) -> Iterator[Problem]:
    """The parameter of the analysis's own model; those of other models are checked when they are loaded."""
    score, train = config.score, config.train
    if score is None or score.model is not None or train is None:
        return
    if train.parameter is not None and train.parameter not in score.parameter:
        problem = f'has no value of "{train.parameter}", the parameter of the model. Add it, as in'
        yield ("score",), f'{problem} "parameter: {{{train.parameter}: 600}}"'
    for name in score.parameter:
        if name != train.parameter:
            known = [train.parameter] if train.parameter else []
            yield ("score", "parameter", name), f"is no parameter of the model. {suggestion(name, known)}"


def _range(axis: Axis) -> Iterator[str]:
    low, high = axis.low, axis.high
    if low is None or high is None:
        yield 'takes "low" and "high", as in "{low: 0.0001, high: 0.01, log: true}", or "choices"'
        return
    if low >= high:
        yield f"low, {low:g}, is not below high, {high:g}"
    elif axis.step is not None and axis.step > high - low:
        yield f"step, {axis.step:g}, is larger than the range"
    if axis.log and low <= 0:
        yield f"low, {low:g}, has no logarithm. Give one above 0, or remove log"
    if axis.log and axis.step is not None:
        yield "takes log or step, not both"


def _choices(axis: Axis) -> Iterator[str]:
    if axis.low is not None or axis.high is not None or axis.step is not None or axis.log:
        yield "takes a range (low and high) or choices, not both"
    if not isinstance(axis.choices, list) or not axis.choices:
        yield 'choices: expected a list of values, as in "choices: [64, 128]"'
        return
    for position, choice in enumerate(axis.choices):
        if choice in axis.choices[:position]:
            yield f"choices: {choice} is listed twice"


def _values(name: str, axis: Axis) -> Iterator[Problem]:
    """Values that `train` would not accept."""
    schema = json_schema(Train)
    given = [("low", axis.low), ("high", axis.high)]
    if axis.choices is not None:
        given = [("choices", choice) for choice in axis.choices]
    for key, value in given:
        for _, problem in complaints({name: value}, schema):
            yield ("tune", "space", name, key), problem
