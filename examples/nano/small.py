"""Writes the sample data of `nanoml init`: two files of each process in one, with the branches that a beginning needs.

python examples/nano/small.py python/templates/init/data
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import awkward as ak

from data_processing.skim.plan import apply_rules, parse_rule
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile

HERE = Path(__file__).parent
PROCESSES = ("WprimeToWZToLNuLL_M600", "WZTo3LNu_Pt100", "ZGToLLG_PtG100")
FILES = (0, 1)
_KINEMATICS = ("pt", "eta", "phi", "mass")
BRANCHES = (
    "run",
    "luminosityBlock",
    "event",
    *(f"Electron_{name}" for name in (*_KINEMATICS, "charge", "cutBased", "pfRelIso03_all")),
    *(f"Muon_{name}" for name in (*_KINEMATICS, "charge", "tightId", "highPtId", "pfRelIso04_all")),
    *(f"Jet_{name}" for name in (*_KINEMATICS, "btagDeepFlavB")),
    "MET_pt",
    "MET_phi",
    "PV_npvsGood",
    "HLT_IsoMu24",
    "HLT_Ele32_WPTight_Gsf",
    "genWeight",
)


def join(sources: Sequence[Path], output: Path) -> None:
    """Write the events, runs and luminosity blocks of all sources, one after the other."""
    files = [RootFile(source) for source in sources]
    wanted = apply_rules([parse_rule(name, "small.py") for name in BRANCHES], files[0].branches, [])
    wanted += [f"n{name}" for name in ("Electron", "Muon", "Jet")]
    described = {name: files[0].branches[name] for name in files[0].branches if name in wanted}
    with replacing(output) as aside, NanoWriter(aside, described, "LZMA:9") as writer:
        parts = [file.read(list(described)) for file in files]
        writer.events.extend({name: ak.concatenate([part[name] for part in parts]) for name in described})
        for tree in ("Runs", "LuminosityBlocks"):
            rows = [file.other_tree(tree) or {} for file in files]
            joined = {name: ak.concatenate([row[name] for row in rows]) for name in rows[0]}
            writer.write_tree(tree, files[0].branches_of(tree), joined)
        writer.finish()
    for file in files:
        file.close()


if __name__ == "__main__":
    for process in PROCESSES:
        join([HERE / process / f"{process}_{number}.root" for number in FILES], Path(sys.argv[1]) / f"{process}.root")
