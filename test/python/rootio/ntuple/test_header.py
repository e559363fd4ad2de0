from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.ntuple.pages import Description
from MLTools.NanoML.rootio.rootfile import RootFile
from services.data.cmssw_rntuples import LISTS, RECORDS
from services.nanoaod import can_write_rntuple

pytestmark = pytest.mark.skipif(not can_write_rntuple(), reason=f"uproot {uproot.__version__} reads no RNTuple")


def compare(path: Path) -> None:
    """All that uproot says of an RNTuple."""
    content = path.read_bytes()
    with uproot.open(path) as file:
        model = file["Events"]
        found = Description.read(model.all_members, lambda seek, size: content[seek : seek + size])
        assert [tuple(field) for field in found.fields] == [
            (each.parent_field_id, each.struct_role, each.field_name, each.type_name, each.field_desc, each.repetition,
             each.source_field_id)
            for each in model.field_records
        ]  # fmt: skip
        assert [tuple(column) for column in found.columns] == [
            (each.type, each.field_id, each.repr_idx, each.first_element_index) for each in model.column_records
        ]
        assert [cluster[:2] for cluster in found.clusters] == [
            (each.num_first_entry, each.num_entries) for each in model.cluster_summaries
        ]
        for cluster, columns in zip(found.clusters, model.page_link_list):
            assert len(cluster.places) == len(columns) > 5
            for number, column in enumerate(columns):
                pages = [(abs(elements), size, seek) for elements, size, seek in cluster.pages(number).tolist()]
                assert pages == [
                    (each.num_elements, each.locator.num_bytes, each.locator.offset) for each in column.pages
                ]


def test_an_rntuple_is_described_as_uproot_describes_it(made_files: dict[str, Path]) -> None:
    for path in (RECORDS, LISTS, made_files["made_v9_mc_rntuple"]):
        compare(path)


def test_one_by_the_importer_of_root_is_described_as_well(real_files: dict[str, Path]) -> None:
    compare(real_files["nano_v6_mc_dy_rntuple"])


@pytest.mark.parametrize("part", ["Header", "Footer"])
def test_each_damage_is_noticed(part: str, tmp_path: Path) -> None:
    with uproot.open(RECORDS) as file:
        members: dict[str, Any] = file["Events"].all_members
    seek, size = members[f"fSeek{part}"], members[f"fNBytes{part}"]
    path = tmp_path / "damaged.root"
    for place in range(seek, seek + size, 41):
        content = bytearray(RECORDS.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(NanoMLError, match="damaged.root: cannot be read"):
            RootFile(path)
