from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.errors import ConfigError
from services.configurations import loaded

TEXT = """\
datasets:
  a: {files: a.root, class: signal, parameters: {in_mass: 600}}
  b: {files: b.root, class: WZ}
regions:
  SR: nBJet == 0 && abs(ZCand_mass - 91.2) < 15
  CR_ZZ: isLoose
convert: {features: [MET_pt, in_met]}
train: {regions: [SR]}
"""


def test_regions_are_cuts_by_name(tmp_path: Path) -> None:
    config = loaded(tmp_path, TEXT)
    assert config.regions == {"SR": "nBJet == 0 && abs(ZCand_mass - 91.2) < 15", "CR_ZZ": "isLoose"}
    assert config.train is not None
    assert config.train.regions == ["SR"]
    assert config.place("regions", "CR_ZZ") == f"{tmp_path}/a.yaml:6: regions.CR_ZZ"
    loaded(tmp_path, "train: {files: a.h5, regions: anything}")  # of other files they are not known


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("isLoose", "isLoose = 1", r'6: regions.CR_ZZ: cut "isLoose = 1": column 9: .* Compare with =='),
        ("isLoose", "3", "6: regions.CR_ZZ: expected text, got 3"),
        (
            "CR_ZZ",
            "CR-ZZ",
            'regions.CR-ZZ: "CR-ZZ" cannot be a name: expected a name of letters, digits and _, as in SR or CR_ZZ',
        ),
        ("CR_ZZ", "sr", '6: regions.sr: differs from "SR" only in upper and lower case'),
        ("CR_ZZ", "met", "6: regions.met: HDF5 files have a column in_met for it, as you call another one. Rename it"),
        ("CR_ZZ", "mass", "6: regions.mass: HDF5 files have a column in_mass for it"),
        ("[SR]", "[SR, CR_Z]", r'8: train.regions\[1\]: "CR_Z" is not one of `regions`. Did you mean "CR_ZZ"\?'),
        ("[SR]", "[SR, SR]", 'train.regions: "SR" is listed twice'),
        ("class: WZ", "class: WZ, weight: a b", r'3: datasets.b.weight: cut "a b": column 3'),
    ],
)
def test_what_cannot_be_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, TEXT.replace(old, new))


def test_without_regions_there_is_none_to_train_in(tmp_path: Path) -> None:
    text = TEXT.replace("regions:\n  SR: nBJet == 0 && abs(ZCand_mass - 91.2) < 15\n  CR_ZZ: isLoose\n", "")
    with pytest.raises(ConfigError, match='"SR" is not one of `regions`. There is none'):
        loaded(tmp_path, text)
