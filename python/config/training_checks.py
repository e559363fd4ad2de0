"""Contradictions between settings of the training, the search, the report and the scores, and between these and other settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields

from MLTools.NanoML.config.analysis import Config, scored_values
from MLTools.NanoML.config.data import TRAINING
from MLTools.NanoML.config.evaluation import METRICS, Axis
from MLTools.NanoML.config.fit import axes_of
from MLTools.NanoML.config.training import DISCRIMINANT, ESTIMATES, MODELS, OBJECTIVES, Train
from MLTools.NanoML.model import CLASSES, TARGETS
from MLTools.NanoML.networks import NetworkClass, hooks
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.document import Keys, Problem
from MLTools.NanoML.schema.settings import complaints, json_schema, suggestion, unknown


def _training(config: Config) -> Iterator[Problem]:
    train = config.train
    if train is None:
        return
    # without the package of the training, no network but the default is known
    if train.model not in MODELS and ":" not in train.model and len(MODELS) > 1:
        what = f'"{train.model}" is not a model. {suggestion(train.model, MODELS)} Or give a module:Class of yours'
        yield ("train", "model"), what
    if train.folds == 2:
        what = "2 is too few: one fold tests, one validates, the rest trains. Give 3 or more, or 1 for a single network"
        yield ("train", "folds"), what
    estimate = train.estimate
    if estimate not in ESTIMATES if isinstance(estimate, str) else not 0 < estimate < 1:
        what = f"is {estimate!r}, but must be {', '.join(ESTIMATES)}, or a quantile: a number between 0 and 1"
        yield ("train", "estimate"), what
    if train.files is not None:
        return
    if config.convert is None:
        yield ("train",), 'there is nothing to train on. Add a "convert" section or "train.files"'
    if train.targets and not config.trained:
        what = "there is nothing to train on: without classes a regression takes simulation, and there is none"
        yield ("train",), what
    if not config.is_regression and train.per_object is None and len(config.classes) < 2:
        has = f'only "{config.classes[0]}" is given' if config.classes else "none is given"
        hint = ', without "only: fit"' if len(config.processes) > len(config.classes) else ""
        yield ("train",), f'takes at least two classes, {has}. Add "class: ..." to the datasets to train on{hint}'


def _unused(config: Config) -> Iterator[Problem]:
    """Settings that mean nothing to the model."""
    found = NetworkClass.of(config.train.model, config.base) if config.train else None
    if config.train is None or found is None:
        return
    given: list[Keys] = [("train", name) for name in config.document.data.get("train") or {}]
    given += [("tune", "space", name) for name in (config.tune.space if config.tune else ())]
    unused = Train.about(found.unused)
    for place in given:
        if place[-1] in unused:
            yield place, f'means nothing to the model "{config.train.model}". Remove it, or take another model'


def _per_era(config: Config) -> Iterator[Problem]:
    """Each era must have all that its own networks learn from, or they could not score its events."""
    train, place = config.train, ("train", "per_era")
    if train is None or not train.per_era:
        return
    if train.files is not None:
        yield place, "which era each of train.files belongs to is not known. Remove one of the two"
        return
    if len(config.trainings) < 2:
        has = f"there is only {config.trainings[0]}" if config.trainings else "there is none"
        yield place, f"takes two or more `eras` with datasets, and {has}. Remove it: one training is enough"
        return
    members = config.members(TRAINING)
    for era in config.trainings:
        names = config.trained_in(era)
        found = {members.get(name) for name in names}
        lacking = " or ".join(f'"{name}"' for name in config.classes if name not in found)
        if names and (train.per_object is not None or not lacking):
            continue
        what = f"of class {lacking}" if lacking else "to train on"
        yield (
            place,
            f"the era {era} has no dataset {what}, so it cannot have networks of its own. Add one, or remove this",
        )


def _columns(config: Config) -> Iterator[Problem]:
    """The columns of the training must be converted; the training itself checks files that exist already."""
    train = config.train
    if train is None or train.files is not None or config.convert is None:
        return
    columns, objects, per_object = config.convert.features, config.convert.objects, train.per_object
    fields: list[str] = []
    if per_object is not None and per_object.collection in objects:  # fields of the objects that are classified
        members = objects[per_object.collection].fields
        fields = [f"{per_object.collection}_{name}" for name in members if name != per_object.label]
    parameters = {name for dataset in config.datasets.values() for name in dataset.parameters}
    decorrelated = [train.decorrelate.column] if train.decorrelate is not None else []
    needed: tuple[tuple[tuple[str, ...], Iterable[str], Collection[str], str], ...] = (
        (("features",), train.features or (), [*columns, *parameters, *fields], "convert.features"),
        (("objects",), train.objects or (), objects, "convert.objects"),
        (("targets",), train.targets, columns, "convert.features"),
        (("decorrelate", "column"), decorrelated, [*columns, *fields], "convert.features"),
        (("parameter",), [train.parameter] if train.parameter else [], parameters, "the parameters of a dataset"),
    )
    for keys, names, known, place in needed:
        for name in names:
            yield from unknown(("train", *keys), name, sorted(known), f"in {place}")
    axis = config.tune.space.get("features") if config.tune else None
    chosen = axis.choices if axis is not None and isinstance(axis.choices, list) else []
    lists = [each if isinstance(each, list) else [each] for each in chosen]
    for name in sorted({name for each in lists for name in each if isinstance(name, str)}):
        yield from unknown(("tune", "space", "features", "choices"), name, sorted(needed[0][2]), "in convert.features")


def _objects(config: Config) -> Iterator[Problem]:
    """A network that reads objects must get some; the training itself checks files that exist already."""
    train = config.train
    found = NetworkClass.of(train.model, config.base) if train else None
    if train is None or found is None or found.object_fields is None:
        return
    needed = found.object_fields
    reads, place = f'"{train.model}" reads collections of objects', ("train", "model")
    if train.per_object is not None:
        yield place, f"{reads}, which per_object does not have. Use {MODELS[0]}"
    elif train.objects == []:
        yield place, f"{reads}, and train.objects is empty. Name some there, or remove it, or use {MODELS[0]}"
    elif train.files is None and config.convert is not None:
        objects = config.convert.objects
        if not objects:
            fields = ", ".join(needed or ("pt", "eta", "phi"))
            what = f'and there is none. Add some, as in "objects: {{Jet: {{fields: [{fields}], max: 6}}}}" in convert'
            yield place, f"{reads}, {what}, or use {MODELS[0]}"
        for name in (name for name in (train.objects or objects) if name in objects):
            lacking = [field for field in needed if field not in objects[name].fields]
            if lacking:
                what = f'"{train.model}" needs {", ".join(lacking)} as well. Add this, or leave the collection out by train.objects'
                yield ("convert", "objects", name, "fields"), what


def _network(config: Config) -> Iterator[Problem]:
    """The class of a network and all that it has for its training; what this gives, the training itself checks."""
    train = config.train
    if train is not None and train.start is not None and not config.path(train.start.file).is_file():
        yield ("train", "init"), f"{config.path(train.start.file)}: no such file"
    found = NetworkClass.of(train.model, config.base) if train else None
    if train is None or found is None:
        return
    for name in train.options:
        if found.options is not None and name not in found.options:
            known = f"{did_you_mean(name, found.options)} Its options: {', '.join(found.options) or 'none'}"
            yield ("train", "options", name), f'the model "{train.model}" has no such option.{known}'
    for name, parameters in hooks().items():
        given = found.methods.get(name)
        if given is not None and not given.needed <= len(parameters) <= len(given.parameters):
            takes, must = (", ".join(["self", *names]) for names in (given.parameters, parameters))
            yield ("train", "model"), f"{found.path}:{given.line}: `{name}` takes ({takes}), but must take ({must})"
    heads, place = found.heads, f"the heads of {train.model} are {', '.join(found.heads)}"
    if heads and not {CLASSES, TARGETS} & set(heads):
        yield ("train", "model"), f'{place}: add "{CLASSES}" or "{TARGETS}"'
    elif TARGETS in heads and not train.targets:
        yield ("train", "targets"), f"{place}, and there are no targets. Name the columns to estimate"
    elif heads and TARGETS not in heads and train.targets:
        yield ("train", "targets"), f'{place}. Add "{TARGETS}", or remove this'
    taken = {
        **dict.fromkeys((*config.classes, *train.discriminants), "a class or discriminant"),
        "fold": "a branch beside the scores",
    }
    for name in (*heads, *(train.targets if CLASSES in heads else ())):
        if name in taken:
            yield ("train", "model"), f"{place}, and {name} is {taken[name]} already. Rename one of the two"


def _per_object(config: Config) -> Iterator[Problem]:
    train, place = config.train, ("train", "per_object")
    if train is None or train.per_object is None:
        return
    per_object = train.per_object
    for setting, given in (("objects", train.objects), ("targets", train.targets)):
        if given:
            what = "cannot be used with per_object: its networks read one object at a time, and tell classes apart"
            yield ("train", setting), f"{what}. Remove one of them"
    if len(per_object.classes) < 2:
        yield (*place, "classes"), 'takes at least two classes, as in "{prompt: [1, 15], fake: [0, 3, 4, 5]}"'
    owner: dict[int, str] = {}
    for name, values in per_object.classes.items():
        if not values:
            yield (*place, "classes", name), f"takes values of {per_object.label}, as in [1, 15]"
        for value in values:
            if owner.setdefault(value, name) != name:
                what = f'{value} belongs to class "{owner[value]}" already. Remove it from one of them'
                yield (*place, "classes", name), what
    if train.files is not None or config.convert is None:
        return
    objects, collection = config.convert.objects, per_object.collection
    yield from unknown((*place, "collection"), collection, objects, "in convert.objects")
    if collection in objects and per_object.label not in objects[collection].fields:
        what = f'"{per_object.label}" is not in convert.objects.{collection}.fields. Add it there'
        yield (*place, "label"), what
    if not config.trained:
        yield ("train",), "there is nothing to train on: only simulation knows what its objects are"


def _signal(config: Config) -> Iterator[Problem]:
    """The signal and the discriminants; classes of other files are checked by the training itself."""
    train, classes = config.train, config.classes
    if train is None:
        return
    if train.per_object is not None:
        classes = tuple(train.per_object.classes)
    known = train.files is None or train.per_object is not None
    if known and train.signal is not None:
        yield from unknown(("train", "signal"), train.signal, classes, "a class")
    if train.discriminants and config.is_regression:
        yield ("train", "discriminants"), "a regression has no classes to tell apart. Remove it, or train.targets"
        return
    for number, (name, against) in enumerate(train.against.items()):
        place = ("train", "discriminants", name)
        signal, shares = against.signal, list(against.shares)
        at: Keys = place if isinstance(train.discriminants[name], str) else (*place, "signal")
        if number == 0 and train.signal is not None and signal != train.signal:
            what = f'the first discriminant looks for "{signal}", but train.signal is "{train.signal}". Make them agree'
            yield at, what
        if shares == [signal]:
            yield (*place, "shares"), f'"{signal}" is the signal: give the shares of other classes as well'
        if name in classes:
            yield place, "a class has this name, and so its probability. Rename one of the two"
        if name in ("fold", "selected"):
            yield place, f"the branch NAME_{name} beside the scores is called so. Rename the discriminant"
        for key, each in [(at, signal), *(((*place, "shares", each), each) for each in shares)] if known else ():
            yield from unknown(key, each, classes, "a class")


def _objective(config: Config) -> Iterator[Problem]:
    """A training for the result of the fit needs one, with histograms of scores."""
    train, fit, place = config.train, config.fit, ("train", "objective")
    if train is None or train.objective == OBJECTIVES[0]:
        return
    if fit is None:
        yield place, 'result is that of a fit, but the analysis has none. Add a "fit" section, or remove this'
        return
    others = {
        "targets": config.is_regression,
        "per_object": train.per_object,
        "files": train.files,
        "processes": train.processes > 1,
    }
    for name in (name for name, given in others.items() if given):
        yield place, f"result is not for a training with train.{name}. Remove one of the two"
    if train.parameter or fit.parameter:
        yield place, "result is for one fit, and each value of a parameter has its own. Remove one of the two"
    outputs = {*config.classes, *(train.against or [DISCRIMINANT])}
    known = {*(config.convert.features if config.convert is not None else ()), *outputs}
    shown = {it: axes_of(it, config.histogram[it]) for it in fit.channels.values() if it in config.histogram}
    for region, name in fit.channels.items():
        axes = shown.get(name, [])
        if len(axes) > 1 or not known.issuperset(axes):
            what = f"the training cannot fill {name}: it takes one axis, an output of the network or one of convert.features"
            yield ("fit", "channels", region), f"{what}. Change it, or remove train.objective"
        elif outputs.isdisjoint(axes) and config.histogram[name].is_auto:
            what = "the training chooses bins of scores alone. Give them, as in"
            yield ("histogram", name), f'{what} "bins: [15, 0, 100]", or remove train.objective'
    if shown and outputs.isdisjoint(name for axes in shown.values() for name in axes):
        yield place, f"no channel of the fit has a histogram of a score ({', '.join(sorted(outputs))})"


def _evaluate(config: Config) -> Iterator[Problem]:
    evaluate, train = config.evaluate, config.train
    if evaluate is None:
        return
    for number, pattern in enumerate(evaluate.compare):
        if pattern.endswith(".root"):
            what = (
                f'{pattern}: HDF5 files are compared, not ROOT files. Add a dataset with these files, and "data: true" if they '
                "are data: it is converted like the others"
            )
            yield ("evaluate", "compare", number), what
    for number, name in enumerate(evaluate.data_in):
        if train is not None and train.files is None:
            yield from unknown(("evaluate", "data_in", number), name, config.regions, "one of `regions`")
    for key in ("seeds", "learning_curve"):
        if getattr(evaluate, key) and config.is_regression:
            what = "shows the AUC of a classification, and train.targets asks for a regression. Remove it"
            yield ("evaluate", key), what
    for key in ("compare", "data_in"):
        if getattr(evaluate, key) and train is not None and train.per_object is not None:
            yield ("evaluate", key), "compares events, but train.per_object trains on objects. Remove one of them"
    if evaluate.data_in and not evaluate.compare and not config.converted_data:
        what = 'there are no data. Add a dataset with "data: true", or HDF5 files of data to evaluate.compare'
        yield ("evaluate", "data_in"), what


def _searches(config: Config) -> Iterator[Problem]:
    """Mistakes in the section `tune`."""
    tune, train = config.tune, config.train
    if tune is None:
        return
    if train is None:
        yield ("tune",), 'there is no training whose settings could be searched. Add a "train" section'
    elif config.is_regression and tune.metric != METRICS[0]:
        yield ("tune", "metric"), "a regression has no AUC, and no significance. Use validation_loss"
    elif train.parameter and tune.metric == "validation_significance":
        yield ("tune", "metric"), "only one of the signals of a parametrised network can exist. Use validation_auc"
    elif train.objective != OBJECTIVES[0] and tune.metric != METRICS[0]:
        what = "train.objective: result aims at the expected uncertainty, which validation_loss stands for then"
        yield ("tune", "metric"), f"{what}. Remove one of the two"
    known = [it.name for it in fields(Train) if it.metadata.get("searched")]
    for name, axis in tune.space.items():
        place = ("tune", "space", name)
        is_option = name.startswith("options.")
        if name not in known and not is_option:
            yield place, f"is not a setting that can be searched. {suggestion(name, [*known, 'options.NAME'])}"
            continue
        problems = list(_range(axis) if axis.choices is None else _choices(axis))
        yield from ((place, problem) for problem in problems)
        if problems or is_option:
            continue
        given = [("low", axis.low), ("high", axis.high)]
        if axis.choices is not None:
            given = [("choices", choice) for choice in axis.choices]
        for key, value in given:  # values that `train` would not accept
            yield from (((*place, key), problem) for _, problem in complaints({name: value}, json_schema(Train)))


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


def _score(config: Config) -> Iterator[Problem]:
    """The parameter of the analysis's own model; those of other models are checked when they are loaded."""
    score, train = config.score, config.train
    if score is None or score.model is not None or train is None:
        return
    if train.per_era and score.files is not None:
        yield ("score", "files"), "have no era, so it is not known which model scores them. Name it by score.model"
    known = [train.parameter] if train.parameter is not None else []
    for name in known:
        if name not in scored_values(config):
            what = f'has no value of "{name}", the parameter of the model. Add it, as in "parameter: {{{name}: 600}}"'
            yield ("score",), what
    for name in score.parameter:
        if name not in known:
            yield ("score", "parameter", name), f"is not a parameter of the model. {suggestion(name, known)}"


CHECKS = (
    _training, _unused, _per_era, _columns, _objects, _network, _per_object, _signal, _objective, _searches, _evaluate, _score,
)  # fmt: skip
