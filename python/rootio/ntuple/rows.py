"""RNTuples as uproot writes them, with bytes sorted by their places in a number, and with checksums of the pages.

uproot has no public way to write either: the files would be larger, and `hadd` of ROOT 6.40 would end in a crash.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
import uproot
import uproot.writing._cascadentuple as cascadentuple
import xxhash

from MLTools.NanoML.rootio.lists import Array, Lists
from MLTools.NanoML.rootio.ntuple.pages import SORTED, bytes_of

_KNOWN = "5.7.7"  # the uproot that is known to work


def check() -> None:
    """With another uproot than that known to work, write an RNTuple and read it back; an exception if that fails."""
    if uproot.__version__ == _KNOWN:
        return
    stream, offsets = io.BytesIO(), ak.index.Index64(np.array([0, 2, 2, 3]))
    number = ak.forms.NumpyForm("int32")
    form = ak.forms.RecordForm([number, ak.forms.ListOffsetForm("i64", number)], ["n", "x"])
    with uproot.recreate(stream, compression=uproot.ZLIB(1)) as file:
        rows, sink = new_rows(file, "Events", form)
        for _ in range(2):
            rows.fill(sink, [np.arange(3, dtype=np.int32), Lists(offsets, np.arange(3, dtype=np.int32))])
        content = io.BytesIO(stream.getvalue())
    with uproot.open(content) as file:
        found = {name: file["Events"][name].array().tolist() for name in ("n", "x")}
    if found != {"n": 2 * [0, 1, 2], "x": 2 * [[0, 1], [], [2]]}:
        raise ValueError(f"{found} is not what was written")


def new_rows(directory: Any, name: str, form: ak.forms.Form) -> tuple[Rows, Any]:
    """Make an RNTuple as uproot's `mkrntuple` does; returns it, and what `fill` takes."""
    cascading = directory._cascading

    def add(sink: Any, name: str, description: str, form: object) -> Any:
        anchor = cascadentuple.NTuple_Anchor(None, *uproot.const.rntuple_version_for_writing, *5 * [None], None, 0)
        header = _Header(None, name, description, form)
        footer = cascadentuple.NTuple_Footer(None, header._checksum)
        made = Rows(cascading, form, cascading._freesegments, header, footer, [], anchor)
        made.write(sink)
        return made

    cascading.add_rntuple = add
    try:
        made = directory.mkrntuple(name, form)
    finally:
        del cascading.add_rntuple
    return made._cascading, made._file.sink


class _Header(cascadentuple.NTuple_Header):  # type: ignore[misc]
    """uproot's, with other types of columns."""

    def generate_field_col_records(self) -> None:
        super().generate_field_col_records()
        for column in self._column_records:
            column.type_num = SORTED.get(column.type_num, column.type_num)


class Rows(cascadentuple.NTuple):  # type: ignore[misc]
    """uproot's, which writes pages in another way."""

    _footer_key: Any  # uproot's

    def fill(self, sink: Any, values: Sequence[Array | Lists]) -> None:
        """Write a cluster of the fields, in their order."""
        codec = self._directory.freesegments.fileheader.compression
        code = (codec or uproot.ZLIB(0)).code
        parts: list[Array] = []
        for each in values:
            parts += (
                [np.asarray(each.offsets.data)[1:], each.numbers] if isinstance(each, Lists) else [each.reshape(-1)]
            )
        columns = []
        for number, (column, part) in enumerate(zip(self._header._column_records, parts)):
            pages = []
            if len(part):
                content = bytes_of(part, column.type_num)
                packed = uproot.compression.compress(content, codec)
                checksum = xxhash.xxh3_64_intdigest(packed).to_bytes(8, "little")
                place = self._place(sink, bytes(packed) + checksum, len(packed))
                pages.append(cascadentuple.NTuple_PageDescription(-len(part), place))  # the sign says: checksum
            begin = int(self._column_counts[number])
            columns.append(cascadentuple.NTuple_ColumnPageListDescription(pages, begin, code))
            self._column_counts[number] += len(part)
        first, count = self._num_entries, len(values[0])
        summary = cascadentuple.NTuple_ClusterSummary(first, count)
        envelope = cascadentuple.NTuple_PageListEnvelope(self._header._checksum, [summary], [columns]).serialize()
        link = cascadentuple.NTuple_EnvLink(len(envelope), self._place(sink, envelope, len(envelope)))
        self._num_entries += count
        self._footer.cluster_group_record_frames.append(cascadentuple.NTuple_ClusterGroupRecord(first, count, 1, link))
        self._move_footer(sink)

    def _place(self, sink: Any, content: bytes, size: int) -> Any:
        """Write something, of which so many bytes are what it is."""
        key = self.add_rblob(sink, content, len(content))
        return cascadentuple.NTuple_Locator(size, key.location + key.allocation)

    def _move_footer(self, sink: Any) -> None:
        """Write the new footer; the old one is valid until the anchor names the new one."""
        old, content = self._footer_key, self._footer.serialize()
        self._footer_key = self.add_rblob(sink, content, len(content))
        self.sync(sink)
        self._anchor.seek_footer = self._footer_key.location + self._footer_key.allocation
        self._anchor.nbytes_footer = self._anchor.len_footer = len(content)
        sink.write(self._anchor.location, self._anchor.serialize())
        self._freesegments.release(old.location, old.location + old.num_bytes + old.compressed_bytes)
        self.sync(sink)
