from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ML_processing.training import following
from ML_processing.training.description import Epoch, TrainingDescription
from ML_processing.training.following import Follower, beside, ending
from ML_processing.training.train import train
from MLTools.NanoML.config.evaluation import Tune
from MLTools.NanoML.config.training import Train
from services.trainings import QUICK

pytestmark = pytest.mark.usefixtures("no_plots")


class Listing(Follower):
    """Notes what it is told."""

    told: list[str]

    def check(self) -> None:
        self.told.append("check")

    def begin(self, directory: Path, workdir: Path, name: str, description: TrainingDescription) -> None:
        self.told.append(f"begin {name} of {workdir.name}: {', '.join(description.classes)}")

    @contextmanager
    def epochs(self, directory: Path, fold: int) -> Iterator[Callable[[list[Epoch]], object]]:
        yield lambda epochs: self.told.extend(f"network {fold}, epoch {it.epoch}" for it in epochs)
        self.told.append(f"network {fold} is done")

    def finish(self, directory: Path, metrics: Mapping[str, object], state: str = "FINISHED") -> None:
        self.told.append(f"{', '.join(metrics)}: {state}")

    def end(self, directory: Path, state: str) -> None:
        self.told.append(state)

    def add(self, directory: Path, files: Sequence[Path]) -> None:
        self.told += [it.name for it in files]

    def beside(self, tune: Tune | None) -> Train:
        return replace(self.train, memory=1)


def test_a_follower_knows_all_of_a_training(
    toy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "entries", lambda kind: {"listing": "here:Listing"} if kind == "followers" else {})
    monkeypatch.setattr(following, "loaded", lambda _: Listing)
    monkeypatch.setattr(Listing, "told", [], raising=False)
    settings = replace(QUICK, epochs=2, workers=1)
    train([toy()], settings, tmp_path / "training")
    following.add(tmp_path / "training", [tmp_path / "report.html"])
    with pytest.raises(KeyboardInterrupt), ending(settings, tmp_path):
        raise KeyboardInterrupt
    networks = [
        line
        for fold in range(3)
        for line in (f"network {fold}, epoch 1", f"network {fold}, epoch 2", f"network {fold} is done")
    ]
    begun = f"begin training of {tmp_path.name}: signal, other"
    assert Listing.told == ["check", begun, *networks, "auc, auc_error: FINISHED", "report.html", "KILLED"]
    assert beside(settings) == replace(settings, memory=1)
