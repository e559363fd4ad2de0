"""Outputs of networks that are kept in an HDF5 file: what was computed once of the same networks and inputs is not computed again.

Each array is a dataset, float32 as the networks give it, with checksums; its name is a hash of all that it follows from: code, networks and
inputs. So nothing else has to say whether it still holds. An evaluation writes the file anew, with the arrays that it has asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import nn

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hdf5 import new_hdf5
from MLTools.NanoML.terminal.progress import say

_CHUNK, _BLOCK = 1 << 12, 1 << 16  # rows with one checksum, and that are checked together


class KeptOutputs:
    """Arrays by what they follow from: those of an earlier file, or made now. `code` stands for how they are made."""

    def __init__(self, file: h5py.File, earlier: h5py.File | None, code: str) -> None:
        self._file, self._earlier, self._code = file, earlier, code
        self._networks: dict[int, tuple[nn.Module, bytes]] = {}

    def get(self, of: Iterable[object], parts: Callable[[], Iterable[NDArray[np.float32]]]) -> object:
        """The HDF5 dataset that follows from texts, networks and arrays; `parts` makes its rows if it was never made."""
        key = self._key(of)
        if self._earlier is not None and key in self._earlier and key not in self._file:
            self._earlier.copy(key, self._file)
        for part in () if key in self._file else parts():
            row = part.shape[1:]
            if key not in self._file:
                chunks = (max(min(len(part), _CHUNK), 1), *row)
                self._file.create_dataset(key, (0, *row), "f4", maxshape=(None, *row), chunks=chunks, fletcher32=True)
            rows = len(self._file[key])
            self._file[key].resize(rows + len(part), axis=0)
            self._file[key][rows:] = part
        return self._file[key]

    def _key(self, of: Iterable[object]) -> str:
        found = hashlib.blake2b(self._code.encode(), digest_size=16)
        for each in of:
            found.update(self._network(each) if isinstance(each, nn.Module) else _content(each))
        return found.hexdigest()

    def _network(self, network: nn.Module) -> bytes:
        """A hash of a network, which is found out once."""
        if id(network) not in self._networks:
            content = b"".join(_content(name) + _content(tensor) for name, tensor in network.state_dict().items())
            self._networks[id(network)] = network, hashlib.blake2b(content).digest()
        return self._networks[id(network)][1]


def _content(value: object) -> bytes:
    """The content of a text, tensor or array, with its type and shape."""
    array = np.asarray(value)
    return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()


@contextmanager
def kept_outputs(path: Path, code: str) -> Iterator[KeptOutputs]:
    """The outputs that are kept in a file, which is written anew at the end; a line says if it is damaged or foreign, and so of no use."""
    with ExitStack() as stack:
        earlier = _earlier(path, stack)
        file = stack.enter_context(new_hdf5(stack.enter_context(replacing(path))))
        yield KeptOutputs(file, earlier, code)
        if earlier is not None and not {*earlier} & {*file}:
            say(f"evaluate: {path.name} was of other networks or events; they were scored again.")


def _earlier(path: Path, stack: ExitStack) -> h5py.File | None:
    """An earlier file, if there is one and all of it can be read."""
    if not path.exists():
        return None
    try:
        file = stack.enter_context(h5py.File(path))
        for dataset in file.values():
            for start in range(0, len(dataset), _BLOCK):
                dataset[start : start + _BLOCK]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as problem:
        say(f"evaluate: {path.name} cannot be used ({problem}); all events are scored again.")
        return None
    return file
