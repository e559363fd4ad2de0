from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_processing.convert.writing import BlockQueue, BlockWriter, gzip_level
from MLTools.NanoML.contracts.hdf5 import new_hdf5
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio import compression

DTYPE = np.dtype([("a", "u1"), ("b", "f4"), ("c", "?"), ("d", "u8")])


@pytest.fixture(params=["isal", "zlib"])
def deflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the faster package."""
    if request.param == "isal":
        pytest.importorskip("isal")
    monkeypatch.setattr(compression, "isal_zlib", None if request.param == "zlib" else compression.isal_zlib)


@pytest.mark.usefixtures("deflater")
@pytest.mark.parametrize("compression", ["gzip:1", "none"])
@pytest.mark.parametrize("shape", [(10_007, 3), (4096, 2), (1,), (0,)])
def test_hdf5_reads_back_what_was_written_in_pieces(tmp_path: Path, shape: tuple[int, ...], compression: str) -> None:
    random = np.random.default_rng(1)
    rows = np.zeros(shape, DTYPE)
    for name in DTYPE.names or ():
        rows[name] = random.integers(0, 2 if name == "c" else 200, shape)
    with ThreadPoolExecutor(2) as threads, new_hdf5(tmp_path / "a.h5") as file:
        writer = BlockWriter(file, "events", shape, DTYPE, compression, BlockQueue(threads, ahead=3))
        start = 0
        while start < len(rows):
            size = int(random.integers(0, 5000))
            part = rows[start : start + size]
            writer.write(part if size % 2 else {name: part[name] for name in DTYPE.names or ()})
            start += size
        assert writer.finish() == len(rows)
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["events"][:] == rows).all()
        assert file["events"].compression == (None if compression == "none" or not shape[0] else "gzip")


@pytest.mark.parametrize("compression", ["gzip:1", "none"])
def test_damage_is_noticed(tmp_path: Path, compression: str) -> None:
    with ThreadPoolExecutor(1) as threads, new_hdf5(tmp_path / "a.h5") as file:
        writer = BlockWriter(file, "events", (1000,), DTYPE, compression, BlockQueue(threads))
        writer.write({name: np.arange(1000).astype(DTYPE[name]) for name in DTYPE.names or ()})
        writer.finish()
        place = file["events"].id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place + 500] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(OSError, match="Can't .*read data"):
        file["events"][:]


@pytest.mark.parametrize("text", ["gzip", "gzip:0", "gzip:10", "lzf", "none:1", ""])
def test_a_compression_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="gzip and a level from 1 to 9"):
        gzip_level(text)
