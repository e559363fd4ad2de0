"""Where the results of an analysis are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config


@dataclass(frozen=True)
class Layout:
    """Where the results of an analysis are, whose model has a name: the same paths for every stage."""

    workdir: Path
    name: str

    @classmethod
    def of(cls, config: Config) -> Layout:
        """Paths of a configuration."""
        workdir = config.path(config.workdir)
        name = config.export.name if config.export and config.export.name else workdir.name
        return cls(workdir, name)

    def skims(self, dataset: str) -> Path:
        """Directory of a dataset's skims."""
        return self.workdir / "skims" / dataset

    def hdf5(self, dataset: str) -> Path:
        """A dataset's HDF5 file."""
        return self.workdir / "hdf5" / f"{dataset}.h5"

    def hdf5_all(self, era: Optional[str]) -> Path:
        """The HDF5 file of all that is trained on, if it is shuffled; `era` is one of `Config.trainings`, here and below."""
        return self.hdf5(_of_era("all", era))

    def training(self, era: Optional[str]) -> Path:
        """Directory of a training, with its report."""
        return self.workdir / _of_era("training", era)

    def report(self, era: Optional[str]) -> Path:
        """The report of a training."""
        return self.training(era) / "report.html"

    def model(self, era: Optional[str]) -> Path:
        """The exported model of a training."""
        return self.workdir / f"{_of_era('model', era)}.onnx"

    def with_selection(self, era: Optional[str], is_data: bool) -> Path:
        """The model with the selection inside, for the data or the simulation of an era; None without eras."""
        return self.workdir / f"{_of_era('model_with_selection', era)}{'_data' if is_data else ''}.onnx"

    def normalisation(self, dataset: str) -> Path:
        """The normalisation of a dataset."""
        return self.workdir / "normalisation" / f"{dataset}.json"

    def scores(self, dataset: str = "") -> Path:
        """Directory of a dataset's scores, or of all scores."""
        return self.workdir / "scores" / dataset

    def filled(self, dataset: str) -> Path:
        """Directory of the histograms of each file of a dataset."""
        return self.workdir / "histograms" / "files" / dataset

    def histograms(self, suffix: str) -> Path:
        """All histograms, as .h5 or .root."""
        return self.workdir / "histograms" / f"histograms{suffix}"

    def ratios(self, channel: str, suffix: str) -> Path:
        """The model of the ratios of densities in an unbinned channel, as .onnx, or another of its files, such as _closure.json."""
        return self.workdir / "ratios" / f"{channel}{suffix}"

    @property
    def densities(self) -> Path:
        """The densities of processes at the events of all unbinned channels."""
        return self.workdir / "histograms" / "densities.h5"

    @property
    def fit(self) -> Path:
        """Directory of the fit: model, results and report."""
        return self.workdir / "fit"

    def pages(self, config: Config) -> Iterator[tuple[str, Path]]:
        """The pages that an analysis asks for, each with its title: first the one about all of it."""
        yield "Analysis", self.workdir / "index.html"
        for era in config.trainings if config.train is not None else ():
            yield f"Training {era}" if era else "Training", self.report(era)
        if config.histogram:
            yield "Histograms", self.histograms(".html")
        if config.fit is not None:
            yield "Fit", self.fit / "report.html"

    @property
    def unblinded(self) -> Path:
        """The log of who unblinded the analysis."""
        return self.workdir / "unblinded.json"


def _of_era(name: str, era: Optional[str]) -> str:
    return name if era is None else f"{name}_{era}"
