from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MLTools.NanoML.contracts.densities import Densities, UnbinnedChannel, UnbinnedChannels
from MLTools.NanoML.contracts.templates import DATA, Template, summed
from MLTools.NanoML.errors import NanoMLError

WIDTHS = np.array([0.5, 0.25, -0.25])
"""Of three events of the reference; two of data come behind them."""


def singles(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def channel() -> UnbinnedChannel:
    varied = {"jes": singles(3, 4, 4, 1, 1)}, {"jes": singles(1, 4, 4, 1, 1)}
    processes = {"WZ": Densities(singles(2, 4, 4, 1, 1), *varied), "ZZ": Densities(singles(1, 3, 2, 1, 1))}
    return UnbinnedChannel("SR", "2018", 2, WIDTHS, processes)


def test_the_file_has_what_was_written(tmp_path: Path) -> None:
    path, blind = (
        tmp_path / "densities.h5",
        UnbinnedChannel("CR", None, None, WIDTHS, {"ZZ": Densities(singles(1, 1, 1))}),
    )
    UnbinnedChannels("NanoML", (channel(), blind)).write(path)
    found, other = UnbinnedChannels.read(path).channels
    assert (found.name, found.observed, other.name, other.observed) == ("SR_2018", 2, "CR", None)
    np.testing.assert_array_equal(found.widths, WIDTHS)
    assert [*found.processes] == ["WZ", "ZZ"]
    for name, it in channel().processes.items():
        same = found.processes[name]
        assert same.nominal.dtype == np.float32
        np.testing.assert_array_equal(same.nominal, it.nominal)
        for side in ("up", "down"):
            mine, wanted = getattr(same, side), getattr(it, side)
            assert mine.keys() == wanted.keys()
            assert all(np.array_equal(mine[key], wanted[key]) for key in wanted)


def test_in_one_bin_there_is_the_sum_over_the_reference() -> None:
    found = channel().counted.processes
    assert found["WZ"].nominal.tolist() == [0, 1, 0]
    assert found["WZ"].variances.tolist() == [0, 1 + 1 + 1, 0]
    assert (found["WZ"].up["jes"][1], found["WZ"].down["jes"][1]) == (1.5, 0.5)
    assert found[DATA].nominal.tolist() == [0, 2, 0]
    assert DATA not in replace(channel(), observed=None, processes={}).counted.processes


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="SR_2018: 36 % of the weights of the reference are negative. Fit it in bins"):
        replace(channel(), widths=np.array([0.5, 0.4, -0.5]))
    for bad in (singles(1, 1, 1, 1), singles(1, 1, np.nan, 1, 1)):
        with pytest.raises(NanoMLError, match="SR_2018: densities of ZZ are not 5 finite numbers"):
            replace(channel(), processes={"ZZ": Densities(bad)})
    path = tmp_path / "densities.h5"
    with pytest.raises(NanoMLError, match="no such file"):
        UnbinnedChannels.read(path)
    path.write_text("no HDF5")
    with pytest.raises(NanoMLError, match="is not a file of densities, or is damaged"):
        UnbinnedChannels.read(path)


def test_what_varies_one_of_several_has_the_errors_of_the_others_as_they_are() -> None:
    def of(*numbers: float) -> np.ndarray:
        return np.array(numbers)

    one = Template(of(1.0, 2.0), of(3.0, 4.0), *({"jes": of(*pair)} for pair in ((5, 6), (7, 8), (9, 10), (11, 12))))
    found = summed([one, Template(of(10.0, 20.0), of(30.0, 40.0))])
    assert (found.up["jes"].tolist(), found.down["jes"].tolist()) == ([15, 26], [17, 28])
    assert (found.up_variances["jes"].tolist(), found.down_variances["jes"].tolist()) == ([39, 50], [41, 52])
