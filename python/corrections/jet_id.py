"""Identification of jets, by the file of JME, its formula or the bits of NanoAOD, whichever there is."""

from __future__ import annotations

from typing import Optional

from MLTools.NanoML.corrections.entries import VariedCorrection
from MLTools.NanoML.corrections.inputs import Objects, clipped, field_of, integers, needed
from MLTools.NanoML.rootio.lists import Mask, Numbers

__all__ = ["FRACTIONS", "passes"]

FRACTIONS = ("eta", "chHEF", "neHEF", "chEmEF", "neEmEF", "muEF", "chMultiplicity", "neMultiplicity")
"""Fields of jets that file and formula read, as `Jet_chHEF`; files before NanoAOD v13 have `Jet_jetId` in place of the multiplicities."""


def passes(
    jets: Objects, correction: Optional[VariedCorrection] = None, lepton_veto: bool = False, is_puppi: bool = True
) -> Mask:
    """Whether each jet passes the tight identification.

    With the numbers of charged and neutral constituents (NanoAOD v13), the file of JME decides, or its formula without a file.
    Without them, the bits of `jetId` do. For forward Puppi jets these are wrong, and JME's remedy is applied: |eta| from 2.7 to 3
    needs neHEF < 0.99, beyond neEmEF < 0.4.

    Parameters
    ----------
    jets
        The jets, AK4 or AK8.
    correction
        The entry of JME's file, with the name AK4PUPPI_Tight or AK4PUPPI_TightLeptonVeto, which decides on the veto.
    lepton_veto
        Whether jets that may be leptons fail, where no file decides.
    is_puppi
        Whether they are Puppi jets of Run 3; in Run 2, where they are not, the bits of NanoAOD are right.
    """
    if all(field_of(jets, f"{kind}Multiplicity") is not None for kind in ("ch", "ne")):
        if correction is not None:
            return correction.on(jets, eta=clipped(_field(jets, "eta"))).nominal > 0.5
        passed = _formula(jets)
    else:
        if correction is not None:
            lepton_veto = "veto" in correction.correction.name.lower()
        bits, eta = integers(_field(jets, "jetId")), abs(_field(jets, "eta"))
        if not is_puppi:
            return (bits & (4 if lepton_veto else 2)) > 0
        forward = ((eta <= 3.0) & (_field(jets, "neHEF") < 0.99)) | ((eta > 3.0) & (_field(jets, "neEmEF") < 0.4))
        passed = ((bits & 2) > 0) & ((eta <= 2.7) | forward)
    if not lepton_veto:
        return passed
    is_hadronic = (_field(jets, "muEF") < 0.8) & (_field(jets, "chEmEF") < 0.8)
    return passed & (is_hadronic | (abs(_field(jets, "eta")) > 2.7))


def _formula(jets: Objects) -> Mask:
    """JME's formula for Puppi jets of Run 3."""
    eta, neutral, photons = abs(_field(jets, "eta")), _field(jets, "neHEF"), _field(jets, "neEmEF")
    charged, others = (integers(_field(jets, f"{kind}Multiplicity")) for kind in ("ch", "ne"))
    has_tracks = (_field(jets, "chHEF") > 0.01) & (charged > 0) & (charged + others > 1)
    central = (eta <= 2.6) & (neutral < 0.99) & (photons < 0.9) & has_tracks
    edge = (eta > 2.6) & (eta <= 2.7) & (neutral < 0.9) & (photons < 0.99)
    endcap = (eta > 2.7) & (eta <= 3.0) & (neutral < 0.99)
    return central | edge | endcap | ((eta > 3.0) & (others >= 2) & (photons < 0.4))


def _field(jets: Objects, name: str) -> Numbers:
    return needed("the identification of jets", name, jets)
