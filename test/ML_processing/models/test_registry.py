from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ML_processing.events.inputs import Shape
from ML_processing.models.network import make_network
from MLTools.NanoML.config.training import MODELS
from MLTools.NanoML.errors import ConfigError

SOURCE = """
import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, shape, scale: float = 1.0, *, names=()):
        super().__init__()
        self.scale = float(scale)
        self.layer = nn.Linear(len(shape.features), shape.outputs)

    def forward(self, inputs):
        return self.scale * self.layer(inputs.features)


class OfJets(Linear):
    object_fields = ("pt", "btag")


class Free(Linear):
    def __init__(self, shape, **options):
        super().__init__(shape, options["size"])


class Plain:
    pass
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current directory, another one in every test."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("suffix", ["", ".py"])
def test_a_model_of_ones_own(suffix: str, source: str, shape: Shape) -> None:
    network = make_network(f"{source}{suffix}:Linear", {"scale": 2}, shape)
    assert network.core.scale == 2
    assert make_network(f"{source}{suffix}:Free", {"size": 3}, shape).core.scale == 3
    assert [tuple(it.shape) for it in network.parameters()] == [(2, 3), (2,)]


def test_a_model_of_ones_own_that_needs_objects(source: str, shape: Shape) -> None:
    jets, _ = shape.collections
    make_network(f"{source}:OfJets", {}, Shape(shape.features, (jets,), 2))
    with pytest.raises(ConfigError, match=f'"{source}:OfJets" needs pt, btag of every collection. Add Muon_btag in'):
        make_network(f"{source}:OfJets", {}, shape)
    with pytest.raises(ConfigError, match=f'"{source}:OfJets" reads collections of objects, but there is none'):
        make_network(f"{source}:OfJets", {}, Shape(shape.features, (), 2))


def test_options_of_another_name(source: str, shape: Shape) -> None:
    with pytest.raises(ConfigError) as found:
        make_network("mlp", {"hiden": [3]}, shape)
    assert str(found.value) == (
        'train.options.hiden: the model "mlp" has no such option. Did you mean "hidden"? Its options: hidden, dropout.'
    )
    with pytest.raises(ConfigError, match=r'no such option. Did you mean "scale"\? Its options: scale, names.'):
        make_network(f"{source}:Linear", {"scales": 1}, shape)
    with pytest.raises(ConfigError, match="train.options.shape: .* has no such option"):
        make_network("mlp", {"shape": 1}, shape)


def test_options_that_the_class_refuses(source: str, shape: Shape) -> None:
    with pytest.raises(ConfigError, match=r"cannot be made with \{'scale': 'x'\}: ValueError: .* Its options: scale"):
        make_network(f"{source}:Linear", {"scale": "x"}, shape)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "deepset",
            r'"deepset" is not a model. Did you mean "deepsets"\? Known: tabular, bdt, deepsets, mlp, particlenet, tr',
        ),
        ("OWN:Liner", r'has no class Liner. Did you mean "Linear"\? It has: Linear, OfJets, Free.'),
        ("OWN:Plain", "Plain is not a class made from torch.nn.Module"),
        ("OWN:torch", "torch is not a class made from torch.nn.Module"),
        ("OWN.py:Plain", "Plain is not a class made from torch.nn.Module"),
        ("absent.py:Linear", "absent.py: no such file"),
        ("absent_module:Linear", "cannot be imported: ModuleNotFoundError: No module named 'absent_module'"),
        ("OWN:", "one of your own is named as module:Class or file.py:Class"),
    ],
)
def test_names_of_nothing(model: str, message: str, source: str, shape: Shape) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(model.replace("OWN", source), {}, shape)


def test_a_broken_file(tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match='broken.py:Linear": cannot be imported: ZeroDivisionError'):
        make_network(f"{path}:Linear", {}, shape)


def test_defaults_of_every_model(shape: Shape) -> None:
    for model in set(MODELS) - {"bdt"}:
        network = make_network(model, {}, shape)
        assert 1e3 < sum(it.numel() for it in network.parameters()) < 3e5
        assert all(it.dtype == torch.float32 for it in network.state_dict().values())
