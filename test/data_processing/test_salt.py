from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uproot
import yaml

pytestmark = [
    pytest.mark.exhaustive("another program trains on the files"),
    pytest.mark.skipif(shutil.which("salt") is None, reason="salt is not in the PATH: pip install salt-ml"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., None]) -> Path:
    """A directory in which the how-to was followed to its end."""
    directory = tmp_path_factory.mktemp("salt")
    follow("networks.md#training-with-salt", directory, hidden=["PYTHONPATH"])  # salt has packages of its own
    return directory


def test_salt_trains_on_a_file_as_it_is(trained: Path) -> None:
    metadata = yaml.safe_load((trained / "logs/trilepton_first/metadata.yaml").read_text())
    assert (metadata["num_train"], metadata["num_val"]) == (7600, 3650)
    (checkpoint,) = trained.glob("logs/trilepton_first/ckpts/*.ckpt")
    loss = re.search(r"val_loss=([0-9.]+)[.]ckpt", checkpoint.name)
    assert loss is not None
    assert float(loss[1]) < 0.95  # guessing gives ln 3 = 1.10


def test_its_scores_go_back_to_the_files_that_they_were_made_of(trained: Path) -> None:
    right, total = 0, 0
    for name, class_ in (("WprimeToWZToLNuLL_M600", 0), ("WZTo3LNu_Pt100", 1), ("ZGToLLG_PtG100", 2)):
        with uproot.open(trained / "scores" / f"{name}_2.root") as root:
            scores = root["Events"].arrays(library="np")
        found = np.stack([scores[f"trilepton_p{column}"] for column in ("signal", "WZ", "ZG")], axis=1)
        assert np.allclose(found.sum(axis=1), 1, atol=1e-3)
        right += int((found.argmax(axis=1) == class_).sum())
        total += len(found)
    assert total == 3650
    assert right / total > 0.55  # guessing gives a third
