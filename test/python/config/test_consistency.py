"""Settings that contradict each other, and styles of what nothing has, are told with their place; what can work is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.report.section import style_of
from services.configurations import loaded

TWO = "datasets:\n  a: {files: a.root, class: signal}\n  b: {files: b.root, class: WZ}\n"
CONVERT = "convert: {features: MET_pt}\n"
ELECTRONS = """\
datasets: {a: {files: a.root}}
convert: {features: MET_pt, objects: {Electron: {fields: [pt, flavour], max: 4}}, shuffle: 1}
train:
  per_object: {collection: Electron, label: flavour, classes: {prompt: [1, 15], fake: 0}}
"""
MASS = """\
datasets: {a: {files: a.root, class: a, parameters: {mass: 600}}, b: {files: b.root, class: b}}
convert: {features: MET_pt}
train: {parameter: mass}
"""
REGIONS_AND_DATA = """\
datasets:
  a: {files: a.root, class: a}
  b: {files: b.root, class: b}
  d: {files: d.root, data: true}
regions: {SR: MET_pt > 30, CR_ZZ: MET_pt <= 30}
convert: {features: MET_pt}
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    """The lines of the error, without the directory; none if there is no error."""
    try:
        loaded(tmp_path, text)
    except ConfigError as error:
        return str(error).replace(f"{tmp_path}/", "").splitlines()
    return []


@pytest.mark.parametrize(
    "text",
    [
        *("{}", TWO, TWO + CONVERT + "train:\n", TWO + CONVERT + "train: {signal: WZ}\nexport:\nscore:\n"),
        TWO + CONVERT + "train: {discriminants: {wprime: signal, diboson: {signal: WZ, shares: {signal: 2, WZ: 1}}}}\n",
        *("train: {files: a.h5, discriminants: {anything: unknown}}", TWO + CONVERT + "train: {folds: 1}\n"),
        *(TWO + "  all: {files: c}\n" + CONVERT, TWO + "  c: {files: c}\nconvert: {features: a, shuffle: 0}\n"),
        TWO + "score: {model: m.onnx}\n",
        "datasets:\n  a: {files: a, parameters: {mass: 600, width: -1e-3}}\n  b: {files: b, parameters:}\n" + CONVERT,
        "export: {cmssw: CMSSW_14_0_X}",
        "datasets: {a: {das: /A-B/C_d*-v1/NANOAOD*}, b: {das: [/a/b/USER, /c/*/*], files: x.root, status: PRODUCTION}}",
        *("score: {files: a.root}", "train: {files: a.h5, signal: anything}"),
        "train: {files: a.h5, model: my_net.py:Net, features: anything, objects: any, parameter: some}",
        TWO + CONVERT + "train: {model: 'my_net:Net', features: MET_pt, decorrelate: {column: MET_pt}}\n",
        "datasets: {a: {files: a.root, class: signal}}\n" + CONVERT + "train: {features: [], targets: MET_pt}\n",
        "datasets: {a: {files: a.root}}\nconvert: {features: MET_pt, shuffle: 1}\ntrain: {targets: MET_pt}\n",
        "datasets:\n  a: {files: a.root, class: signal, parameters: {mass: 600}}\n  b: {files: b.root, class: WZ}\n"
        + CONVERT
        + "train: {parameter: mass}\n",
        "luminosity: 1\ndatasets: {a: {files: b, cross_section: 1}, c: {files: d}, e: {files: f, data: true}}",
        ELECTRONS,
        ELECTRONS + "  signal: fake\n  features: [Electron_pt, MET_pt]\n  decorrelate: {column: Electron_pt}\n",
        "train: {files: a.h5, per_object: {collection: Jet, label: flavour, classes: {b: 5, light: 0}}}",
        *(MASS + "score: {parameter: {mass: 650}}\n", MASS + "score: {model: other.onnx}\n"),
        TWO + "convert: {features: MET_pt, objects: {Jet: {fields: btag, max: 2}}}\ntrain: {model: transformer}\n",
        TWO
        + "convert: {features: MET_pt, objects: {Jet: {fields: pt, max: 2}, Muon: {fields: [pt, eta, phi], max: 2}}}\n"
        + "train: {model: particlenet, objects: Muon}\n",
        "train: {files: a.h5, model: deepsets}",
    ],
)
def test_consistent(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((f"datasets:\n  a:\n    files: a\n    parameters: {{{setting}}}\n{CONVERT}",
           f"a.yaml:4: datasets.a.parameters.{setting.partition(':')[0]}: {message}.")
          for setting, message in (
            ("weight: 1", "every HDF5 file has a column of this name with another meaning. Rename it"),
            ("run: 1", "every HDF5 file has a column of this name with another meaning. Rename it"),
            ("MET_pt: 1", "a feature has this name, too. Rename it, or take it out of convert.features"),
            ("mass: 1e39", "1e+39 is not a number that float32 can hold, as in 600"),
          )),
        *((f"{TWO}convert: {{features: a, objects: {{Jet: {{fields: pt{most}}}}}}}\n",
           'a.yaml:4: convert.objects.Jet: takes "max" or "quantile", one of them, as in "max: 6".')
          for most in ("", ", max: 2, quantile: 0.9")),
        (TWO + "  All: {files: c}\nconvert: {features: a, shuffle: 1}\n",
         "a.yaml:4: datasets.All: the file of all datasets, which convert.shuffle makes, has this name. Rename it."),
        ("datasets:\n  a: {files: b}\nconvert:\n  features: a\n  shuffle: 1\n",
         'a.yaml:5: convert.shuffle: takes the datasets with a class, but none has one. Remove this, or add "class: ..." to them.'),
        ("datasets:\n  a: {class: b}\n",
         'a.yaml:2: datasets.a: has no files. Add "files", as in "files: data/WZ/*.root", or "das" with a name of the catalogue.'),
        ("datasets:\n  a:\n    das: [/A/B-v1/NANOAODSIM, /A/B-v1/MINIAODSIM]\n",
         "a.yaml:3: datasets.a.das[1]: MINIAODSIM is not NanoAOD. Take the dataset's NANOAOD or NANOAODSIM, or a USER one."),
        ("datasets:\n  a: {files: b.root, instance: prod/phys03}\n",
         'a.yaml:2: datasets.a.instance: has an effect with "das" only. Remove it.'),
        ("datasets:\n  WZ: {files: a}\n  wz: {files: b}\n",
         'a.yaml:3: datasets.wz: differs from "WZ" only in upper and lower case, which not every disk tells apart. Rename one.'),
        ("datasets:\n  a:\n    files: b\n    data: true\n    class: c\n",
         'a.yaml:5: datasets.a.class: data is trained on in a region of "data_driven" only. Remove this or "data: true".'),
        ("luminosity: 1\ndatasets:\n  a:\n    files: b\n    data: true\n    cross_section: 1\n",
         'a.yaml:6: datasets.a.cross_section: data has no cross section. Remove this or "data: true".'),
        ("luminosity: 1\ndatasets:\n  a: {files: b, cross_section: 1}\n  c: {files: d, class: e}\n",
         'a.yaml:4: datasets.c.cross_section: missing, while "a" has one. Give it for every dataset with a class, or for none.'),
        ("datasets:\n  a: {files: b, cross_section: 1}\n  c: {files: d, cross_section: 1}\n",
         'a.yaml:2: datasets.a.cross_section: has no effect without a luminosity. Add it, in /fb, as in "luminosity: 59.8".'),
        ("skim: {selection: a:B}", 'a.yaml:1: skim: there are no datasets to read. Add some under "datasets:".'),
        ("score:", 'a.yaml:1: score: there is nothing to score. Add datasets or "score.files".'),
        (TWO + "train:", 'a.yaml:4: train: there is nothing to train on. Add a "convert" section or "train.files".'),
        ("datasets:\n  a: {files: b, class: c}\n" + CONVERT + "train:",
         'a.yaml:4: train: takes at least two classes, only "c" is given. Add "class: ..." to the datasets to train on.'),
        ("datasets:\n  a: {files: b}\n" + CONVERT + "train:",
         'a.yaml:4: train: takes at least two classes, none is given. Add "class: ..." to the datasets to train on.'),
        (TWO + CONVERT + "train:\n  signal: sginal", 'a.yaml:6: train.signal: "sginal" is not a class. Did you mean "signal"?'),
        (TWO + CONVERT + "train:\n  discriminants:\n    a: {signal: signal, shares: {WZ: 1, ZG: 2}}\n",
         'a.yaml:7: train.discriminants.a.shares.ZG: "ZG" is not a class. Known: signal, WZ.'),
        (TWO + CONVERT + "train:\n  discriminants:\n    a: {signal: signal, shares: {WZ: 0}}\n",
         "a.yaml:7: train.discriminants.a.shares.WZ: expected a number above 0, got 0."),
        (TWO + CONVERT + "train:\n  discriminants:\n    a: {signal: signal, shares: {signal: 1}}\n",
         'a.yaml:7: train.discriminants.a.shares: "signal" is the signal: give the shares of other classes as well.'),
        (TWO + CONVERT + "train:\n  signal: WZ\n  discriminants:\n    a: signal\n",
         'a.yaml:8: train.discriminants.a: the first discriminant looks for "signal", but train.signal is "WZ". Make them agree.'),
        (TWO + CONVERT + "train:\n  discriminants:\n    WZ: signal\n",
         "a.yaml:7: train.discriminants.WZ: a class has this name, and so its probability. Rename one of the two."),
        (TWO + CONVERT + "train:\n  discriminants:\n    fold: signal\n",
         "a.yaml:7: train.discriminants.fold: the branch NAME_fold beside the scores is called so. Rename the discriminant."),
        (TWO + CONVERT + "train:\n  discriminants:\n    a: [signal]\n",
         'a.yaml:7: train.discriminants.a: expected lines of the form "key: value", got a list.'),
        (TWO + CONVERT + "train:\n  model: tranformer",
         'a.yaml:6: train.model: "tranformer" is not a model. Did you mean "transformer"? Or give a module:Class of yours.'),
        ("datasets:\n  a: {files: b, data: true}\n" + CONVERT + "train: {targets: MET_pt}",
         "a.yaml:4: train: there is nothing to train on: without classes a regression takes simulation, and there is none."),
        ("luminosity: 1\ndatasets:\n  a: {files: b, cross_section: 1}\n  c: {files: d}\n" + CONVERT + "train: {targets: MET_pt}",
         'a.yaml:4: datasets.c.cross_section: missing, while "a" has one. Give it for every dataset, or for none.'),
        *((f"{TWO}convert: {{features: MET_pt{objects}}}\ntrain:\n  model: particlenet\n{more}", f"a.yaml:{message}.")
          for objects, more, message in (
            ("", "",
             '6: train.model: "particlenet" reads collections of objects, and there is none. Add some, as in "objects: {Jet: {fields: '
             '[pt, eta, phi], max: 6}}" in convert, or use tabular'),
            (", objects: {Jet: {fields: [pt, phi], max: 2}, Muon: {fields: [pt, eta, phi], max: 2}}", "",
             '4: convert.objects.Jet.fields: "particlenet" needs eta as well. Add this, or leave the collection out by train.objects'),
            (", objects: {Jet: {fields: [pt, phi], max: 2}}", "  objects: []\n",
             '6: train.model: "particlenet" reads collections of objects, and train.objects is empty. Name some there, or remove it, or '
             'use tabular'),
          )),
        (ELECTRONS + "  model: deepsets\n",
         'a.yaml:5: train.model: "deepsets" reads collections of objects, which per_object does not have. Use tabular.'),
        *((TWO + CONVERT + f"train:\n  objective: result\n{more}", f"a.yaml:{message}.")
          for more, message in (
            ("", '6: train.objective: result is that of a fit, but the analysis has none. Add a "fit" section, or remove this'),
            ("  model: bdt\nhistogram: {signal: {bins: [9, 0, 1]}}\nfit: {channels: {all: signal}}\n",
             '6: train.objective: means nothing to the model "bdt". Remove it, or take another model'),
            ("  processes: 2\nhistogram: {signal: {bins: [9, 0, 1]}}\nfit: {channels: {all: signal}}\n",
             "6: train.objective: result is not for a training with train.processes. Remove one of the two"),
            ("tune: {metric: validation_auc}\nhistogram: {signal: {bins: [9, 0, 1]}}\nfit: {channels: {all: signal}}\n",
             "7: tune.metric: train.objective: result aims at the expected uncertainty, which validation_loss stands for then. Remove "
             "one of the two"),
            ("histogram:\n  MET_pt: {bins: [2, 0, 100]}\nfit:\n  channels: {all: MET_pt}\n",
             "6: train.objective: no channel of the fit has a histogram of a score (WZ, discriminant, signal)"),
            ("regions: {A: MET_pt > 1, B: MET_pt > 2}\nhistogram:\n  signal: {}\n  MET_pt: {}\nfit: {channels: {A: signal, B: MET_pt}}\n",
             '10: histogram.MET_pt: the training chooses bins of scores alone. Give them, as in "bins: [15, 0, 100]", or remove '
             'train.objective'),
            ("histogram:\n  signal: {bins: [9, 0, 1]}\n  pt: {of: 2 * MET_pt, bins: [2, 0, 9]}\n"
             "regions: {A: MET_pt > 1, B: MET_pt > 2}\nfit:\n  channels:\n    A: signal\n    B: pt\n",
             "14: fit.channels.B: the training cannot fill pt: it takes one axis, an output of the network or one of convert.features. "
             "Change it, or remove train.objective"),
          )),
        *((TWO + CONVERT + f"train:\n  options:\n    {option}: 8\n{model}",
           f'a.yaml:7: train.options.{option}: the model "{name}" has no such option.{hint}')
          for option, model, name, hint in (
            ("widht", "", "tabular", ' Did you mean "width"? Its options: members, width, depth, dropout.'),
            ("l3", "  model: bdt\n", "bdt", " Its options: leaves, min_events, event_share, feature_share, l2."),
          )),
        *((TWO + CONVERT + f"train:\n  {key}: {value}", f'a.yaml:6: train.{where or key}: "{name}" is not in {place}. {hint}')
          for key, value, where, name, place, hint in (
            ("features", "MET_p", "", "MET_p", "convert.features", 'Did you mean "MET_pt"?'),
            ("targets", "x", "", "x", "convert.features", "Known: MET_pt."),
            ("objects", "Jet", "", "Jet", "convert.objects", "There is none."),
            ("parameter", "mass", "", "mass", "the parameters of a dataset", "There is none."),
            ("decorrelate", "{column: m}", "decorrelate.column", "m", "convert.features", "Known: MET_pt."),
          )),
        *((ELECTRONS.replace(old, new) + more, f"a.yaml:{line}: {message}")
          for old, new, more, line, message in (
            ("[1, 15], fake: 0", "[1, 0], fake: 0", "", 4,
             'train.per_object.classes.fake: 0 belongs to class "prompt" already. Remove it from one of them.'),
            (", fake: 0", "", "", 4,
             'train.per_object.classes: takes at least two classes, as in "{prompt: [1, 15], fake: [0, 3, 4, 5]}".'),
            ("fake: 0", "fake: []", "", 4, "train.per_object.classes.fake: takes values of flavour, as in [1, 15]."),
            ("collection: Electron", "collection: Elektron", "", 4,
             'train.per_object.collection: "Elektron" is not in convert.objects. Did you mean "Electron"?'),
            ("label: flavour", "label: genPartFlav", "", 4,
             'train.per_object.label: "genPartFlav" is not in convert.objects.Electron.fields. Add it there.'),
            ("", "", "  signal: promt\n", 5, 'train.signal: "promt" is not a class. Did you mean "prompt"?'),
            ("", "", "  features: Electron_flavour\n", 5,
             'train.features: "Electron_flavour" is not in convert.features. Known: Electron_pt, MET_pt.'),
            ("", "", "  targets: MET_pt\n", 5,
             "train.targets: cannot be used with per_object: its networks read one object at a time, and tell classes apart. Remove one "
             "of them."),
            ("", "", "evaluate: {compare: b.h5}\n", 5,
             "evaluate.compare: compares events, but train.per_object trains on objects. Remove one of them."),
          )),
        (ELECTRONS.replace("a.root}", "a.root, cross_section: 1}, b: {files: b.root}") + "luminosity: 1\n",
         'a.yaml:1: datasets.b.cross_section: missing, while "a" has one. Give it for every dataset, or for none.'),
        ("train: {files: a.h5, parameter: mass}\nscore: {files: b.root}",
         'a.yaml:2: score: has no value of "mass", the parameter of the model. Add it, as in "parameter: {mass: 600}".'),
        (MASS + "score: {parameter: {mass: 600, width: 1}}",
         "a.yaml:4: score.parameter.width: is not a parameter of the model. Known: mass."),
        ("train: {files: a.h5}\nevaluate: {compare: data/*.root}",
         'a.yaml:2: evaluate.compare[0]: data/*.root: HDF5 files are compared, not ROOT files. Add a dataset with these files, and '
         '"data: true" if they are data: it is converted like the others.'),
        (REGIONS_AND_DATA + "blind: {regions: [CR_Z]}",
         'a.yaml:7: blind.regions[0]: "CR_Z" is not one of `regions`. Did you mean "CR_ZZ"?'),
        ("train: {files: a.h5, targets: [x]}\nevaluate: {seeds: 3}",
         "a.yaml:2: evaluate.seeds: shows the AUC of a classification, and train.targets asks for a regression. Remove it."),
        ("train: {files: a.h5}\nevaluate: {data_in: [CR]}",
         'a.yaml:2: evaluate.data_in: there are no data. Add a dataset with "data: true", or HDF5 files of data to evaluate.compare.'),
        (REGIONS_AND_DATA + "train: {regions: [SR]}\nevaluate: {data_in: [CR_Z]}",
         'a.yaml:8: evaluate.data_in[0]: "CR_Z" is not one of `regions`. Did you mean "CR_ZZ"?'),
        (ELECTRONS.replace("a.root}", "a.root}, d: {files: d.root, data: true}") + "regions: {CR: MET_pt < 30}\nevaluate: {data_in: [CR]}",
         "a.yaml:6: evaluate.data_in: compares events, but train.per_object trains on objects. Remove one of them."),
        ("train: {files: a.h5, folds: 2}",
         "a.yaml:1: train.folds: 2 is too few: one fold tests, one validates, the rest trains. Give 3 or more, or 1 for a single network."),
    ],
)  # fmt: skip
def test_contradictions(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


def test_all_are_told_at_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "skim: {selection: a:B}\nscore:\ntrain: {folds: 2}")) == 5


def test_names_of_the_catalogue(tmp_path: Path) -> None:
    for name in ("/A/B", "A/B/NANOAOD", "/A/B/NANOAOD/C", "/A;x/B/NANOAOD", "/$(x)/B/USER", "/A/B C/USER"):
        assert problems(tmp_path, f"datasets:\n  a:\n    das: '{name}'\n") == [
            "a.yaml:3: datasets.a.das: expected a name of the catalogue, /PRIMARY/PROCESSED/TIER, with * for any text, "
            f'got "{name}".'
        ]


def test_other_settings_of_the_catalogue(tmp_path: Path) -> None:
    settings = "instance: prod, status: [VALID, DONE], max_files: 0, max_events: 1.5"
    found = problems(tmp_path, f"datasets:\n  a: {{das: /a/b/USER, {settings}}}\n")
    wrong = ["instance", "max_events", "max_files", "status[1]"]
    assert [line.split(": ", 2)[1] for line in found] == [f"datasets.a.{name}" for name in wrong]


def test_settings_that_mean_nothing_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Mine:\n    unused = ('clip',)\n")
    text = "train: {files: a.h5, model: MODEL, clip: 1.0, epochs: 3, sampler: weighted}\n"
    text += "tune: {space: {weight_decay: {low: 0, high: 1}}}\n"
    clip, sampler, space = (
        f'a.yaml:{line}: {name}: means nothing to the model "MODEL". Remove it, or take another model.'
        for line, name in ((1, "train.clip"), (1, "train.sampler"), (2, "tune.space.weight_decay"))
    )
    for model, expected in (("bdt", [clip, sampler, space]), ("own.py:Mine", [clip]), ("mlp", [])):
        said = problems(tmp_path, text.replace("MODEL", f"'{model}'"))
        assert said == [line.replace("MODEL", model) for line in expected]


def test_features_of_trials_must_be_converted(tmp_path: Path) -> None:
    text = (
        "datasets: {a: {files: a.root, class: a}, b: {files: b.root, class: b, parameters: {mass: 3}}}\n"
        "convert: {features: [MET_pt, HT]}\ntrain: {parameter: mass}\ntune:\n  space:\n    features:\n      choices:\n        [CHOICES]\n"
    )
    assert problems(tmp_path, text.replace("CHOICES", "[MET_pt, mass], HT, [], null")) == []
    for choices in ("[MET_pt, MET_p], [MET_p]", "MET_p, HT"):
        (told,) = problems(tmp_path, text.replace("CHOICES", choices))
        assert told.startswith('a.yaml:7: tune.space.features.choices: "MET_p" is not in convert.features. Did you')


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        *(("object_fields = ('mass',)", "mass"), ("object_fields: ClassVar[tuple[str, ...]] = ('mass',)", "mass")),
        *(("fields = ('mass',)", None), ("object_fields = FIELDS", None), ("object_fields = (", None)),
    ],
)
@pytest.mark.parametrize("model", ["nets/own.py:Mine", "nets.own:Mine"])
def test_an_own_network_says_what_objects_it_needs(model: str, line: str, needed: str | None, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own.py").write_text(
        f"import a_module_that_is_not_here\n\nclass Other:\n    object_fields = ('other',)\n\nclass Mine:\n    {line}\n"
    )
    text = TWO + "convert: {features: MET_pt, objects: {Jet: {fields: pt, max: 2}}}\ntrain: {model: " + f"'{model}'}}\n"
    expected = f'a.yaml:4: convert.objects.Jet.fields: "{model}" needs {needed} as well. Add this, or leave the '
    assert problems(tmp_path, text) == ([f"{expected}collection out by train.objects."] if needed else [])


OWN = """
class Mine:
    heads = ("classes", "targets", "quality")

    def loss(self, outputs, batch, power=2):
        return 0
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ("batch, power=2", "batch, power", "own.py:5: `loss` takes (self, outputs, batch, power), but must take"),
        ("outputs, batch, power=2", "outputs", "own.py:5: `loss` takes (self, outputs), but must take (self, outputs, batch)."),
        ("outputs, batch, power=2", "*given", None),
        ('"targets", ', "", 'train.targets: the heads of own.py:Mine are classes, quality. Add "targets", or remove this.'),
        ('"targets", "quality"', '"y"', 'train.targets: the heads of own.py:Mine are classes, y. Add "targets", or'),
        ('"classes", "targets", "quality"', '"quality",', 'the heads of own.py:Mine are quality: add "classes" or "targets".'),
        ("quality", "signal", "targets, signal, and signal is a class or discriminant already. Rename one of the two."),
    ],
)  # fmt: skip
def test_what_an_own_network_has_for_its_training(old: str, new: str, problem: str | None, tmp_path: Path) -> None:
    pytest.importorskip("ML_processing")
    (tmp_path / "own.py").write_text(OWN.replace(old, new))
    text = TWO + "convert: {features: [MET_pt, GenMET_pt]}\n"
    text += "train: {model: 'own.py:Mine', targets: [GenMET_pt], features: [MET_pt]}\n"
    if problem is None:  # it tells classes as well
        text += "tune: {metric: validation_auc}\nevaluate: {seeds: 1}\n"
    found = problems(tmp_path, text)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_a_checkpoint_must_be_there(tmp_path: Path) -> None:
    init = "{file: weights.pt, fresh: output, frozen: [embed, body]}"
    text = TWO + f"convert: {{features: [MET_pt]}}\ntrain: {{init: {init}, ema: 0.999, scaling: none}}\n"
    assert problems(tmp_path, text) == ["a.yaml:5: train.init: weights.pt: no such file."]
    (tmp_path / "weights.pt").touch()
    assert problems(tmp_path, text) == []


ANALYSIS = """\
luminosity: 59.8
energy: 13
datasets:
  wprime: {files: a.root, class: signal, cross_section: 1, parameters: {mass: 600}}
  WZ: {files: a.root, class: WZ, cross_section: 1}
  ZG: {files: a.root, class: ZG, cross_section: 1}
convert: {features: [MET_pt], objects: {Muon: {fields: [pt], max: 2}}}
train: {discriminants: {heavy: signal}, signal: signal}
histogram: {ratio: {of: WLep_pt / MET_sum, bins: [2, 0, 1]}}
"""


@pytest.mark.parametrize(
    ("style", "place", "problem"),
    [
        ("processes: {WY: {label: a}}", "processes.WY", '"WY" is not a class. Known: WZ, ZG, signal.'),
        ("quantities: {MET_p: {unit: GeV}}", "quantities.MET_p", '"MET_p" is not a quantity. Did you mean "MET_pt"?'),
        ("regions: {SX: {label: a}}", "regions.SX", '"SX" is not a region. Known: all.'),
        ('regions: {all: {label: "$W_$"}}', "regions.all.label", "matplotlib cannot draw it: "),
        ('processes: {WZ: {label: "$W_$"}}', "processes.WZ.label", "matplotlib cannot draw it: "),
        ('quantities: {mass: {label: "$\\\\ell$", unit: "$\\\\GeV$"}}', "quantities.mass.unit", "matplotlib cannot"),
        ("processes: {WZ: {color: reddish}}", "processes.WZ.color", '"reddish" is not a colour that matplotlib knows'),
        ("processes: {WZ: {color: red}, ZG: {color: red}}", "processes.ZG.color", "WZ has this colour. Take another"),
        ("label: Preliminary", "label", 'is said after "CMS" only. Add "cms: true"'),
    ],
)
def test_what_fits_nothing_or_cannot_be_drawn(style: str, place: str, problem: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"{ANALYSIS}style: {{{style}}}")
    assert f"a.yaml:10: style.{place}: {problem}" in str(caught.value)
    assert str(caught.value).count("style") == 1


def test_all_that_figures_show_can_be_named(tmp_path: Path) -> None:
    names = ("MET_pt", "Muon_pt", "mass", "ratio", "WLep_pt / MET_sum", "WLep_pt", "signal", "heavy", "discriminant")
    quantities = ", ".join(f"{name}: {{label: x}}" for name in names)
    loaded(tmp_path, f"{ANALYSIS}style: {{quantities: {{{quantities}}}}}")


def test_an_older_label_is_sent_to_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='label: unknown key here. It belongs in "style"'):
        loaded(tmp_path, f"{ANALYSIS}label: Example")


def test_the_style_of_an_analysis(tmp_path: Path) -> None:
    text = 'style: {processes: {ZG: {label: "$Z$"}}, quantities: {heavy: {unit: au}, WZ: {label: "P(WZ)"}}}'
    style = style_of(loaded(tmp_path, ANALYSIS + text))
    assert style.conditions() == "59.8 fb$^{-1}$ (13 TeV)"
    assert [style.name(it) for it in ("signal", "WZ", "ZG")] == ["signal", "WZ", "$Z$"]
    assert style.color("signal") == "#e42536"
    assert len({style.color(it) for it in ("signal", "WZ", "ZG")}) == 3
    # in the skims, in the report, and as others call them
    for name in ("ZG", "a_ZG", "Probability of ZG"):
        assert style.axis(name) == "DNN score ($Z$)"
    assert style.axis("Discriminant heavy") == "DNN score (heavy) [au]"
    assert style.axis("Probability of WZ") == "P(WZ)"
    eras = ANALYSIS.replace("luminosity: 59.8\nenergy: 13\n", "eras: {2018: {luminosity: 1, energy: 13}, 2022: {}}\n")
    eras += "regions: {SR: WLep_pt > 50, CR: WLep_pt < 50}\nstyle: {regions: {SR: {label: $W'$ region}}}\n"
    config = loaded(tmp_path, eras.replace("class:", "era: 2018, class:").replace(", cross_section: 1", ""))
    names = {it: style_of(config).region(it) for it in ("SR", "SR_2018", "CR_2018")}
    assert names == {"SR": "$W'$ region", "SR_2018": "$W'$ region (2018)", "CR_2018": "CR_2018"}
    assert style_of(config).conditions() == "(13 TeV)"
    assert style_of(config, "2018").conditions() == "1.0 fb$^{-1}$ (13 TeV)"
