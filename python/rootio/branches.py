"""The branches of a tree, described in the same way for a TTree and an RNTuple (see `ntuple`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import uproot

from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.ttree import Branches, StoredBranch, TreeBranch

_C_TYPES = {"bool": "bool", "float32": "float", "float64": "double"}
_LEAF_LIST = re.compile(r"(\[\w+\])*/\w")


@dataclass(frozen=True)
class Branch:
    """One branch of a tree.

    Attributes
    ----------
    name
        Its name in the file.
    dtype
        numpy name of the type of its numbers; None for strings, nested lists and objects.
    shape
        "flat" (one number per event), "jagged" (a list per event), "fixed" (an array of fixed size per event)
        or "other".
    title
        Its documentation.
    collection
        For a jagged branch, the collection that it belongs to, else None.
    typename
        ROOT's name of its type.
    size
        Numbers per event, for an array of fixed size.
    missing
        Of a column that a selection makes, the number that stands for "no value".
    """

    name: str
    dtype: str | None
    shape: str
    title: str
    collection: str | None
    typename: str
    size: int = 1
    missing: float | None = None

    @property
    def is_flat(self) -> bool:
        """One number per event."""
        return self.shape == "flat" and self.dtype is not None

    @property
    def is_fixed(self) -> bool:
        """An array of fixed size per event."""
        return self.shape == "fixed" and self.dtype is not None

    @property
    def is_jagged(self) -> bool:
        """A list of numbers per event."""
        return self.shape == "jagged" and self.dtype is not None

    @property
    def is_numeric(self) -> bool:
        """Numbers in one of these three shapes, which is what can be written again."""
        return self.is_flat or self.is_fixed or self.is_jagged

    @property
    def field(self) -> str:
        """Name within its collection: `pt` for `Muon_pt`."""
        if self.collection is None or self.collection == self.name:
            return self.name
        return self.name[len(self.collection) + 1 :]


def flat_branch(name: str, dtype: str, title: str = "") -> Branch:
    """A branch with a number for each event, which is to be written."""
    return Branch(name, dtype, "flat", title, None, "")


def counters_in(branches: Iterable[Branch]) -> set[str]:
    """Counters of the collections of these branches, and counters of single branches, as some writers make them."""
    return {f"n{name}" for branch in branches if branch.is_jagged for name in (branch.collection, branch.name)}


class TreeBranches(Mapping[str, Branch]):
    """The branches of a TTree, each described when it is first asked for, as most never are.

    `objects` are the branches as they are in the file: `StoredBranch` or uproot's.
    """

    def __init__(self, objects: Branches) -> None:
        self._objects, self._names = objects, set(objects)
        self._known: dict[str, Branch] = {}

    def __getitem__(self, name: str) -> Branch:
        if name not in self._known:
            branch = self._objects[name]
            try:
                self._known[name] = _describe(branch, self._names)
            except Exception:  # uproot cannot interpret this branch, but others can be read
                self._known[name] = Branch(name, None, "other", "", None, "unknown")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)


def with_counters(branches: Mapping[str, Branch], names: Sequence[str]) -> dict[str, Branch]:
    """Some of the branches with the counters of their collections, which have the input's types and titles."""
    kept = {name: branches[name] for name in names}
    for branch in list(kept.values()):
        counter = f"n{branch.collection}"
        if branch.is_jagged and counter in branches:
            kept[counter] = branches[counter]
        if branch.is_jagged and branch.collection != branch.name:
            kept.pop(f"n{branch.name}", None)  # a counter of the branch's own, as some writers make them
    return kept


def counter_of(branch: TreeBranch) -> str | None:
    """The branch with the lengths of the lists of a branch of a TTree; None if there is none."""
    if isinstance(branch, StoredBranch):
        return branch.counter
    counted_by = branch.count_branch  # uproot searches for it each time
    return None if counted_by is None else str(counted_by.name)


def _describe(branch: TreeBranch, names: set[str]) -> Branch:
    # some writers put the type in the place of a title: "Muon_pt/F"
    title = branch.title or ""
    if title.startswith(branch.name) and _LEAF_LIST.fullmatch(title, len(branch.name)):
        title = ""
    counter = counter_of(branch)
    if isinstance(branch, StoredBranch):
        dtype, dimensions, is_jagged = str(branch.dtype.newbyteorder("=")), branch.dimensions, counter is not None
        arrays = "".join(f"[{length}]" for length in dimensions)
        typename = _C_TYPES.get(dtype, f"{dtype}_t") + ("[]" if is_jagged else "") + arrays
    else:
        is_jagged = isinstance(branch.interpretation, uproot.AsJagged)
        numbers = branch.interpretation.content if is_jagged else branch.interpretation
        # several numbers under one name, as in a TLorentzVector or a leaf list, have a type with names
        if not isinstance(numbers, uproot.AsDtype) or numbers.to_dtype.base.names is not None:
            return Branch(branch.name, None, "other", title, None, branch.typename)
        dtype, dimensions = str(numbers.to_dtype.base.newbyteorder("=")), numbers.inner_shape
        typename = branch.typename
    if is_jagged:
        collection = versions.collection_of(branch.name, counter, names)
        return Branch(branch.name, dtype, "other" if dimensions else "jagged", title, collection, typename)
    shape = ("flat", "fixed", "other")[min(len(dimensions), 2)]
    return Branch(branch.name, dtype, shape, title, None, typename, dimensions[0] if dimensions else 1)
