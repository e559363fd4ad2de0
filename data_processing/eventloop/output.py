"""The branches that modules make and fill."""
# ruff: noqa: D102, N802, N803

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Optional, Union

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.eventloop.input import TYPES, InputTree, Tree
from data_processing.eventloop.root import needs_root
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch

_DTYPES = {letter: dtype for letter, dtype, _ in TYPES}
_NAMES = {"float32": "float", "float64": "double", "bool": "bool"}
_MANTISSA = 23


def reduced(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Round numbers to fewer than 23 bits of mantissa, as NanoAOD does; they compress better.

    The two largest mantissas are cut, not rounded up, so that the exponent stays.
    """
    shift = _MANTISSA - bits
    raw = values.view(np.uint32)
    mantissa = (raw & np.uint32((1 << _MANTISSA) - 1)) >> np.uint32(shift)
    round_up = (raw >> np.uint32(shift - 1) & np.uint32(1)).astype(bool) & (mantissa < (1 << bits) - 2)
    rest = raw & np.uint32(0xFFFFFFFF ^ (1 << _MANTISSA) - 1)
    return (rest | (mantissa + round_up.astype(np.uint32)) << np.uint32(shift)).view(np.float32)


class TargetFile:
    """The file that is written, as a TFile."""

    def __init__(self, name: str) -> None:
        self._name = name

    def GetName(self) -> str:
        return self._name

    def cd(self) -> bool:
        return True  # there is no current directory

    def __getattr__(self, name: str) -> NoReturn:
        needs_root(f"outputFile.{name}")


class OutputBranch:
    """A branch with one number per event, and what all branches share; `bits` of mantissa are kept, or all."""

    def __init__(self, branch: Branch, bits: Optional[int]) -> None:
        self.branch, self._bits = branch, bits
        # Python's arrays check what is put into them; numpy's do not
        self._code = "B" if branch.dtype == "bool" else np.dtype(branch.dtype).char
        self.buff = array(self._code, [0] * branch.size)
        self._kept = array(self._code)

    def fill(self, value: Any) -> None:
        """Set the value of this event, and of the next ones until it is set again."""
        self.buff[0] = value

    def keep(self) -> None:
        """Write the event."""
        self._kept.append(self.buff[0])

    def take(self) -> Any:
        """What was written since the last time, as an array."""
        values, self._kept = np.array(self._kept), array(self._code)
        values = values.astype(self.branch.dtype, copy=False)
        return values if self._bits is None else reduced(values, self._bits)


class _Fixed(OutputBranch):
    """A branch with an array of fixed size per event."""

    def fill(self, value: Sequence[Any]) -> None:
        if len(value) != self.branch.size:
            raise NanoMLError(
                f"{self.branch.name} has {self.branch.size} numbers per event, but is filled with {len(value)}."
            )
        self.buff[:] = array(self._code, value)

    def keep(self) -> None:
        self._kept.extend(self.buff)

    def take(self) -> Any:
        return super().take().reshape(-1, self.branch.size)


class _List(OutputBranch):
    """A branch with a list per event, as long as its counter says."""

    def __init__(self, branch: Branch, bits: Optional[int], counter: str, branches: Mapping[str, OutputBranch]) -> None:
        super().__init__(branch, bits)
        self.counter, self._branches = counter, branches
        self._lengths = array("q")

    def fill(self, value: Sequence[Any]) -> None:
        length = len(value)
        self._branches[self.counter].buff[0] = length
        if length < len(self.buff):
            self.buff[:length] = array(self._code, value)
        else:
            self.buff = array(self._code, value)

    def keep(self) -> None:
        length = self._branches[self.counter].buff[0]
        if length > len(self.buff):
            raise NanoMLError(
                f"{self.branch.name} has never been filled with as many as {length} values, which "
                f"{self.counter} says: fill all branches of a collection in every event."
            )
        self._kept.extend(self.buff[:length])
        self._lengths.append(length)

    def take(self) -> Any:
        lengths, self._lengths = np.array(self._lengths), array("q")
        return ak.unflatten(super().take(), lengths)


class OutputTree:
    """The tree that is written, as modules see it."""

    def __init__(self, tree: InputTree, file: TargetFile) -> None:
        self._intree, self._file = tree, file
        self._present: Mapping[str, Branch] = tree.branches
        self._all: dict[str, Branch] = dict(self._present)
        self._tree = Tree(self._all)
        self._branches: dict[str, OutputBranch] = {}
        self._open = True
        tree.made = self._branches

    # called by modules

    def tree(self) -> Tree:
        """The names and types of all branches: the input's and those that were made."""
        return self._tree

    def branch(
        self,
        name: str,
        rootBranchType: str,
        n: int = 1,
        lenVar: Optional[str] = None,
        title: Optional[str] = None,
        limitedPrecision: Union[int, bool] = False,
    ) -> OutputBranch:
        """Make a branch, in `beginFile`, of `n` numbers per event or, with the counter `lenVar`, of a list per event.

        A branch that the file has is replaced, and keeps its type. The counter is made if there is none.
        `limitedPrecision` are the bits of mantissa to keep, of type F.
        """
        if not self._open:
            raise NanoMLError(f"{name}: branches are made in beginFile, not when the events have begun.")
        branch = self._described(name, rootBranchType, int(n), lenVar, title or "")
        limited = limitedPrecision and rootBranchType == "F" and limitedPrecision < _MANTISSA
        bits = int(limitedPrecision) if limited else None
        if lenVar is not None:
            if lenVar not in self._branches:
                self.branch(lenVar, "I")
            made: OutputBranch = _List(branch, bits, lenVar, self._branches)
        else:
            made = OutputBranch(branch, bits) if branch.size == 1 else _Fixed(branch, None)
        self._branches[name] = made
        self._all[name] = branch
        self._intree.special.add(name)
        return made

    def _described(self, name: str, code: str, size: int, counter: Optional[str], title: str) -> Branch:
        if code not in _DTYPES:
            raise NanoMLError(f'{name}: there is no type "{code}" of branches, only {", ".join(_DTYPES)}.')
        dtype = _DTYPES[code]
        shape = "jagged" if counter is not None else "flat" if size == 1 else "fixed"
        earlier = self._all.get(name)
        if earlier is not None:
            if (earlier.shape, earlier.size) != (shape, 1 if counter is not None else size):
                raise NanoMLError(
                    f"{name}: is there already as {earlier.typename}, so it cannot be made again as {shape}."
                )
            dtype, title = str(earlier.dtype), title or earlier.title
        plain = _NAMES.get(dtype, f"{dtype}_t")
        if counter is None:
            typename = plain if size == 1 else f"{plain}[{size}]"
            return Branch(name, dtype, shape, title, None, typename, size)
        member = counter[:1] == "n" and name.startswith(counter[1:] + "_")
        return Branch(name, dtype, shape, title, counter[1:] if member else name, f"{plain}[]")

    def fillBranch(self, name: str, value: Any) -> None:
        """Fill a branch of this event; later modules see the value as `event.NAME`."""
        made = self._branches.get(name)
        if made is None:
            raise NanoMLError(
                f"{name} is filled, but no module has made it by `branch`.{versions.did_you_mean(name, self._branches)}"
            )
        made.fill(value)
        event = self._intree.event
        if event is not None:
            if isinstance(made, _List):
                event._filled[made.counter] = len(value)
            event._filled[name] = value

    # called by the chain

    def close(self) -> None:
        """Let no more branches be made."""
        self._open = False

    def keep(self) -> None:
        """Write the event."""
        for made in self._branches.values():
            made.keep()

    def take(self) -> dict[str, Any]:
        """What was written since the last time, all branches."""
        return {name: made.take() for name, made in self._branches.items()}

    @property
    def counters(self) -> dict[str, list[str]]:
        """The counters of lists, each with the lists' names."""
        found: dict[str, list[str]] = {}
        for name, made in self._branches.items():
            if isinstance(made, _List):
                found.setdefault(made.counter, []).append(name)
        return found

    @property
    def written(self) -> dict[str, Branch]:
        """The branches that were made, but for the counters that a collection brings along."""
        implied = {
            name
            for name, members in self.counters.items()
            if name in self._present or any(f"n{self._all[member].collection}" == name for member in members)
        }
        return {name: made.branch for name, made in self._branches.items() if name not in implied}
