"""The files of a dataset: they stay open, a range is read while the one before is written, and their accounting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import awkward as ak

from data_processing.convert.expressions import Expression, nominal_cuts
from MLTools.NanoML.contracts.hdf5 import ConvertedDataset
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import BY_SETTING, UNWEIGHTED, Accounting, all_events_of, check_declared
from MLTools.NanoML.nanoaod.fileaccounting import under_shift
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.roles import BESIDE

_MOST_OPEN = 40  # files; older uproot maps them into memory
_MOST_BRANCHES = 3000  # in all open files together: each takes some kilobytes of memory


class OpenFiles:
    """ROOT files that stay open: a file is surveyed before it is read, and opening one takes long.

    Under a shift of objects, as "jesUp", each branch stands for the one with its values there, if there is one.
    """

    def __init__(self, shift: str = "") -> None:
        self._files: dict[str, RootFile] = {}
        self._shift = shift

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def __call__(self, path: str) -> RootFile:
        """The file at a path."""
        if path not in self._files:
            self._files[path] = file = RootFile(path)
            if self._shift:
                branches = file.branches
                others = {it.name: under_shift(it.name, self._shift, it.collection or "") for it in branches.values()}
                file.renamed = {name: other for name, other in others.items() if other in branches}
            while len(self._files) > 2 and self._too_many():
                self._files.pop(next(iter(self._files))).close()
        return self._files[path]

    def _too_many(self) -> bool:
        branches = sum(len(file.branches) for file in self._files.values())
        return len(self._files) > _MOST_OPEN or branches > _MOST_BRANCHES


def read_ahead(
    ranges: Iterable[tuple[RootFile, int, int]], branches: Sequence[str]
) -> Iterator[tuple[RootFile, int, dict[str, ak.Array]]]:
    """Files, numbers of events and arrays of ranges; the next range is read while this one is written."""
    with ThreadPoolExecutor(1) as thread:
        # all branches at once: what uproot does for each call takes longer than reading a branch
        begun = ((file, stop - start, thread.submit(file.read, branches, start, stop)) for file, start, stop in ranges)
        following = next(begun, None)
        while following is not None:
            (file, length, arrays), following = following, next(begun, None)
            yield file, length, arrays.result()


@dataclass(frozen=True)
class Sample:
    """A dataset of the analysis."""

    name: str = ""
    class_: str | None = None  # its class, if it has one
    cross_section: float | None = field(default=None, metadata=BESIDE)  # cross section [pb], or None
    # whether the configuration says that it is collision data; None if it does not say
    is_data: bool | None = None
    weight: Expression | None = None  # by which its events are weighted


def survey(
    sample: Sample,
    sources: Sequence[str],
    opened: OpenFiles,
    allow_gaps: bool,
    visit: Callable[[RootFile, Provenance | None], None] = lambda _file, _record: None,
) -> Accounting:
    """The accounting of a dataset's files, each of which is visited with its record.

    Raises NanoMLError if a file contradicts its record, or has lost weights; the files are not those of one dataset, or some events
    are twice in them, or not at all.
    """
    accounting = Accounting()
    owners: list[str] = []
    for source in sources:
        file = opened(source)
        record = Provenance.of(file)
        accounting.files += record.accounting.files if record else [all_events_of(file)]
        owners += [source] * (len(accounting.files) - len(owners))
        problem = record.contradiction(file) if record else None
        if problem is not None:
            raise NanoMLError(f"{source}: {problem}")
        nominal_cuts(file, record)  # an error if it has lost the branch
        weights = record.accounting.weights if record else []
        lost = [name for sums in weights for name in sums.branches if name not in file.branches]
        if lost:
            raise NanoMLError(
                f"{source}: its record says that its events have the weight {lost[0]}, but that branch was dropped. Skim again, and keep "
                "weight_*."
            )
        visit(file, record)
    if accounting.is_data is None:
        simulated = next(file.file for file in accounting.files if not file.is_data)
        data = next(file.file for file in accounting.files if file.is_data)
        raise NanoMLError(
            f"{sample.name or sources[0]}: mixes data ({data}) and simulation ({simulated}): convert them separately."
        )
    check_declared(sample.name, accounting.files[0], sample.is_data)
    accounting.check(owners, allow_gaps)
    return accounting


def has_generator_weights(accounting: Accounting) -> bool:
    """Whether the events of a dataset have generator weights, which count."""
    return not accounting.is_data and any(
        file.sum_of_weights_source not in (UNWEIGHTED, BY_SETTING) for file in accounting.files
    )


def described(sample: Sample, label: int, luminosity: float | None, accounting: Accounting) -> ConvertedDataset:
    """A dataset as metadata describe it.

    Raises NanoMLError if it is to be normalised to a cross section, but its sum of weights is not positive.
    """
    found = ConvertedDataset(
        sample.name,
        sample.class_,
        label,
        sample.cross_section,
        luminosity,
        {},
        bool(accounting.is_data),
        accounting.recorded(),
    )
    if math.isnan(found.weight_per_genweight or 0):
        sums = f"generator weights of its events add up to {accounting.sum_of_weights:g}"
        remedy = "Look at genWeight in its files" if accounting.entries else "Add files with events"
        raise NanoMLError(
            f"dataset {sample.name}: the {sums}, so it cannot be normalised to a cross section. {remedy}."
        )
    return found
