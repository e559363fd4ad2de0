"""Where the results of an analysis are: the same paths for every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from MLTools.NanoML.config.analysis import Config

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Paths in an analysis's work directory.

    Attributes
    ----------
    workdir
        The work directory.
    name
        The name of the model.
    """

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

    @property
    def hdf5_all(self) -> Path:
        """The HDF5 file of all datasets with a class, where they are shuffled."""
        return self.hdf5("all")

    @property
    def training(self) -> Path:
        """Directory of the training, with its report."""
        return self.workdir / "training"

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.workdir / "model.onnx"

    def scores(self, dataset: str) -> Path:
        """Directory of a dataset's scores."""
        return self.workdir / "scores" / dataset
