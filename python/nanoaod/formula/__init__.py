"""Cuts in the language of TTree::Draw, as in "nMuon >= 2 && Muon_pt[0] > 20", without ROOT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.formula.instances import Column, Instances
from MLTools.NanoML.nanoaod.formula.nodes import Alternative, leaves, nodes
from MLTools.NanoML.nanoaod.formula.parser import parse
from MLTools.NanoML.nanoaod.formula.tokens import mistake
from MLTools.NanoML.rootio.rootfile import Branch

__all__ = ["Formula"]


class Formula:
    """A cut in the language of TTree::Draw, which `nano_postproc.py -c` takes too.

    It has numbers, branches (`nMuon`, `Muon_pt[0]`), the operators of C (`^` and `**` are powers), functions (`abs`,
    `sqrt`, `min`, `TMath::Max`, ...) and `Sum$`, `Max$`, `Min$`, `Length$` and `Alt$`. It means what it means to ROOT:

    - All is computed in double precision: `5 / 2` is 2.5. A division by zero gives 0, as does `log` of what is not
      positive, and `sqrt` takes the absolute value.
    - Of a list without an index (`Muon_pt > 20`), the cut is evaluated for each element, and the event passes if
      it is true for any. Several such lists are read in parallel, up to the end of the shortest; what ROOT makes
      of what lies beyond differs between its releases.
    - An event that lacks an element with an index (`Muon_pt[1]`) does not pass, whatever the rest of the cut says
      (`nMuon < 2 || Muon_pt[1] > 20`): use `Alt$(Muon_pt[1], 0)`.
    - `Max$` and `Min$` of an empty list are 0.

    Where ROOT and C disagree on what belongs together (`a < b < c`, `a % b * c`), parentheses are required.

    Parameters
    ----------
    text
        The cut.

    Raises
    ------
    NanoMLError
        It is not understood; with the column.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._root = parse(text)
            self._leaves = leaves(self._root)
        except RecursionError:
            raise NanoMLError(
                f'cut "{text}": is too long, or has too many parentheses in each other.'
            ) from None

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches that it reads, in the order in which they appear."""
        return tuple(dict.fromkeys(leaf.name for leaf in self._leaves))

    def resolve(self, branches: Mapping[str, Branch], path: str) -> dict[str, str]:
        """The names of the branches, as written in the cut, to those in a file (see `versions.resolve`).

        Raises
        ------
        NanoMLError
            The file at `path` lacks a branch, or a branch is not what the cut takes it for.
        """
        found: dict[str, str] = {}
        for leaf in self._leaves:
            actual = versions.resolve(leaf.name, branches)
            if actual is None:
                hint = versions.did_you_mean(leaf.name, branches)
                raise mistake(self.text, leaf.position, f"{path} has no branch {leaf.name}.{hint}")
            if branches[actual].shape == "other":
                kind = branches[actual].typename
                raise mistake(
                    self.text, leaf.position, f"{path}: {actual} is of type {kind}, which a cut cannot have."
                )
            found[leaf.name] = actual
        self._check({name: branches[actual].shape != "flat" for name, actual in found.items()})
        return found

    def mask(self, arrays: Mapping[str, Any], length: int) -> NDArray[np.bool_]:
        """Which events pass.

        Parameters
        ----------
        arrays
            The branches, by the names in the cut, as `RootFile.read` returns them.
        length
            Number of events.

        Returns
        -------
        bool of shape (length,).

        Raises
        ------
        NanoMLError
            A branch is not what the cut takes it for.
        """
        columns = {name: Column.of(arrays[name]) for name in self.branches}
        self._check({name: column.counts is not None for name, column in columns.items()})
        with np.errstate(all="ignore"):
            instances = Instances(self._root, columns, length)
            passes = np.zeros(length, bool)
            passes[instances.event[instances.values != 0]] = True
        return passes

    def _check(self, is_list: Mapping[str, bool]) -> None:
        for leaf in self._leaves:
            if leaf.index is not None and not is_list[leaf.name]:
                what = f"{leaf.name} is one number per event: it has no index."
                raise mistake(self.text, leaf.position, what)
        for node in nodes(self._root):
            for leaf in leaves(node.otherwise, everywhere=False) if isinstance(node, Alternative) else ():
                if is_list[leaf.name]:
                    what = f"the second argument of Alt$ is one number per event, but {leaf.name} is a list."
                    raise mistake(self.text, leaf.position, what)
