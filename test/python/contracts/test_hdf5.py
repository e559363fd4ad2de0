from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from MLTools.NanoML.contracts.hdf5 import new_hdf5, open_hdf5, read_metadata, reading
from MLTools.NanoML.errors import NanoMLError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with new_hdf5(tmp_path / "a.h5") as file:
        file.create_dataset("events", data=np.arange(1000), chunks=(100,), compression="gzip")
        file.create_dataset("metadata", data='{"schema": 1}', dtype=h5py.string_dtype())
    assert read_metadata(tmp_path / "a.h5") == {"schema": 1}
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["events"][:] == np.arange(1000)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "is no HDF5 file"),
        (b"", "is no HDF5 file"),
        (None, "no such file"),
        ("other", "was not written by"),
        ("newer", "schema 2"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "a.h5"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with h5py.File(path, "w") as file:
            file["x"] = 1
            if content == "newer":
                file["events"] = np.zeros(3)
                file.create_dataset("metadata", data='{"schema": 2}', dtype=h5py.string_dtype())
    with pytest.raises(NanoMLError, match=message):
        read_metadata(path)


def test_a_truncated_file_is_explained(tmp_path: Path) -> None:
    with new_hdf5(tmp_path / "a.h5") as file:
        file.create_dataset("events", data=np.arange(100_000))
    os.truncate(tmp_path / "a.h5", 50_000)
    with pytest.raises(NanoMLError, match="cannot be read|truncated"):
        open_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["events", "absent"])
def test_what_is_damaged_or_missing_within_a_file_is_explained(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    with new_hdf5(path) as file:
        dataset = file.create_dataset("events", data=np.arange(1000), chunks=(1000,), compression="gzip")
        offset = dataset.id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 40)
    with (
        open_hdf5(path) as file,
        pytest.raises(NanoMLError, match=r"a.h5: cannot be read: .* It may be damaged"),
        reading(path),
    ):
        file[name][:]


FULL = """
import resource, signal, sys
import numpy as np
from MLTools.NanoML.contracts.hdf5 import new_hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    with new_hdf5(sys.argv[1]) as file:
        data = file.create_dataset("events", (100_000,), "f8", chunks=(1000,))
        for start in range(0, 100_000, 10_000):
            data[start : start + 10_000] = np.random.default_rng(1).random(10_000)
except OSError as problem:
    print(type(problem).__name__, problem.errno)
"""


@pytest.mark.parametrize("limit", [0, 100, 3_000, 400_000, 799_000, 800_500])
def test_a_file_that_cannot_grow_is_an_error_and_no_crash(tmp_path: Path, limit: int) -> None:
    # a limit on the file's size stands for the full disk: the same failure at the same place, without a mount
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "a.h5"), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "OSError 27\n"
    assert done.stderr == ""
