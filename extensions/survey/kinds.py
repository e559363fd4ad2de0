"""The purposes of corrections of CMS's object groups, by their names and inputs; and the lines of YAML that ask for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile
from MLTools.NanoML.corrections.lines import fixed_inputs, plain_lines, quoted

SPECIAL = ("b_tags", "jets", "fat_jets", "electrons", "electron_legs", "met_xy", "muons", "photons")
"""The entries of objects that have keys of their own."""
SEE = "with `nanoml corrections compare OLD NEW`"
"""How to see the changes of a file."""
_KNOWN = (
    "eta abseta pt p et phi sceta abssceta r9 gain seedgain run charge ntrackerlayers mass msoftdrop jetpt jeteta jetphi jeta rho "
    "numtrueinteractions flavor discriminant cvl cvb dm decaymode genmatch met_pt met_phi npvs npvgood genpt eventid chhef nehef "
    "njet ptll val chemef neemef muef chmultiplicity nemultiplicity multiplicity parameter "
)  # inputs, in small letters, that NanoAOD has, that follow from it, or that functions of NanoML give
_OF_PAIR = re.compile(r"[a-z]+\d_(?:pt|(?:abs)?eta)|(?:pt|(?:abs)?eta)(?:_?\d|_[a-z]+)", re.IGNORECASE)
"""Inputs of pairs of leptons, as lep1_pt or pt_sublead."""
_SCALE = r"(?P<campaign>.+)_L1L2L3Res_(?P<algorithm>{}\w*)"
_LEVELS = ("L1L2L3Res", "L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
_PERIODS = {
    "16B": 272007, "16C": 275657, "16D": 276315, "16E": 276831, "16F": 277772, "16G": 278820, "16H": 280919,
    "17B": 297020, "17C": 299337, "17D": 302030, "17E": 303435, "17F": 304911, "17G": 306464,
    "18A": 315252, "18B": 316998, "18C": 319313, "18D": 320394,
    "22A": 352416, "22B": 355094, "22C": 355794, "22D": 357487, "22E": 359022, "22F": 360390, "22G": 362433,
    "23A": 366323, "23B": 366403, "23C": 367080, "23Cv4": 367765, "23D": 369803,
    "24A": 376000, "24B": 378971, "24C": 379412, "24D": 380253, "24E": 380948, "24F": 381944, "24Fnib2": 382298,
    "24Fnib3": 383247, "24G": 383780, "24Gnib2": 384933, "24H": 385814, "24I": 386409, "25A": 390000,
}  # fmt: skip
"""The first runs of the periods of data-taking, and of the parts of periods that JME's README files name (PdmV)."""
_YEAR = re.compile(  # a word's beginning and not the year of a date, such as 12/05/2023
    r"UL(?:20)?(1[5-8])|(?:Collisions|Summer|Winter|Prompt|Run)(?:20)?(1[5-8]|2[2-9])(?!\d)|"
    r"(?<![A-Za-z\d])(?<!\d[-./]\d[-./])(?<!\d[-./]\d\d[-./])20(1[5-8]|2[2-9])(?!\d|[-./]\d\d?[-./]\d)"
)


@dataclass(frozen=True)
class Kind:
    """A purpose of corrections: the entry of an era that asks for one of them."""

    entry: str  # {} stands for the first group in `names`
    names: str  # pattern of the names of corrections
    inputs: tuple[str, ...] = ()  # which it must have
    prefer: tuple[str, ...] = ("Medium",)  # patterns of which one wins among several corrections, or files
    fixed: Mapping[str, str] = field(default_factory=dict)  # patterns of inputs that are the same for all objects
    of: str = ""  # a pattern that file and name must have,
    unless: str = "(?!)"  # and one that they must not have
    free: str = ""  # inputs which look as if they were fixed, but are given by each call
    low: Optional[bool] = None  # whether it is for pt from below 10 GeV on

    def corrections(self, file: CorrectionFile) -> dict[str, list[str]]:
        """The corrections in a file that can be this, the preferred one first, by the name of the entry."""
        found: dict[str, list[str]] = {}
        for name in file.names:
            match, place = re.fullmatch(self.names, name), f"{file.path.name} {name}"
            if match and re.search(self.of, place) and not re.search(self.unless, place) and self._fits(file[name]):
                found.setdefault(self.entry.format(*match.groups()), []).append(name)
        return {entry: sorted(names, key=lambda name: self.rank(file, name)) for entry, names in found.items()}

    def _fits(self, correction: Correction) -> bool:
        pt = correction.axes.get("pt")
        is_low = pt is not None and pt.low is not None and pt.low < 10
        return set(self.inputs) <= set(correction.inputs) and self.low in (None, is_low)

    def rank(self, file: CorrectionFile, name: str) -> tuple[int, list[int]]:
        """The place of a correction among others of this kind: the preferred one is first, then the newest version."""
        wins = [i for i, it in enumerate(self.prefer) if re.search(it, f"{file.path.name} {name}")]
        return min(wins, default=len(self.prefer)), [-int(version) for version in re.findall(r"V(\d+)", name)]

    def missing_in(self, files: Iterable[CorrectionFile]) -> str:
        """Why no file has this: none has the name, or the inputs."""
        if self.names == ".*":
            return f"no correction has the inputs {', '.join(self.inputs)}"
        alike = [(file, name) for file in files for name in file.names if re.fullmatch(self.names, name)]
        for file, name in alike:
            for lost in (it for it in self.inputs if it not in file[name].inputs):
                return f"{file.path.name}: {name} has no input {lost}, but {', '.join(file[name].inputs)}"
        return f"no correction has a name like {self.names}"

    def lines(self, entry: str, path: str, file: CorrectionFile, names: Sequence[str], era: str = "") -> list[str]:
        """The entry for the first of some corrections, with what else there is in comments."""
        if entry in ("electrons", "photons"):
            return [_electrons(entry, path, file, names[0], era)]
        if entry == "electron_legs":
            return list(_legs(entry, path, file[names[0]], era))
        if entry == "b_tags":
            taggers = [name.partition("_wp_values")[0] for name in names]
            return [f"b_tags: {{file: {quoted(path)}, tagger: {taggers[0]}}}", f"# tagger may be {', '.join(taggers)}"]
        if entry == "muons":
            return [f"muons: {{file: {quoted(path)}}}"]
        if entry == "met_xy":
            return [_met_xy(path, file[names[0]], era)]
        if entry in SPECIAL:
            return list(_jets(entry, path, file, names[0]))
        others = [f"# name may be {', '.join(names[1:])}"] if names[1:] else []
        return [*plain_lines(entry, path, file[names[0]], self.fixed, self.free, era), *others]


_EGM, _SF = ("ValType", "eta", "pt"), ("eta", "pt", "scale_factors")
_ISO = (*(f"NUM_{each}(?:Rel|PF)Iso_DEN_MediumID" for each in ("Medium", "Tight")), "DEN_MediumID", "Medium")
"""By particle flow, as triggers ask for it; tight where a file has no medium one, since it passes that of the triggers, too."""
_SHAPE, _TAU = ("systematic", "flavor", "discriminant"), ("2p5",)
KINDS = (
    Kind("pileup", ".*", ("NumTrueInteractions", "weights")),
    Kind("jets", _SCALE.format("AK4"), prefer=("_MC_.*PF(?:chs|Puppi)$", "_MC_")),
    Kind("fat_jets", _SCALE.format("AK8"), prefer=("_MC_",)),
    Kind("jet_veto", ".*", ("type", "eta", "phi"), fixed={"type": "jetvetomap"}),
    Kind("jet_id", "AK4.*", ("eta", "chHEF", "neHEF"), ("LeptonVeto",)),
    Kind("fat_jet_id", "AK8.*", ("eta", "chHEF", "neHEF"), ("LeptonVeto",)),
    Kind("jet_pileup_id", "PUJetID_eff", ("workingpoint",)),
    Kind("met_xy", r"(?:pt|phi)_metphicorr_\w+|met_xy_corrections", ("met_pt", "met_phi")),
    Kind("recoil", "Recoil_correction_(?:Quantile|Rescal).*", ("ptll", "var"), ("MapHist",), {"order": "NLO"}, free="var"),
    Kind("recoil_uncertainty", "Recoil_correction_Uncertainty", ("ptll", "var"), fixed={"order": "NLO"}, free="var syst"),
    Kind("electron_id", "(?:UL-)?Electron-ID-SF", (*_EGM, "WorkingPoint")),
    Kind("electron_reco", "(?:UL-)?Electron-ID-SF", (*_EGM, "WorkingPoint"), free="WorkingPoint"),
    Kind("electron_trigger", "Electron-HLT-SF", (*_EGM, "Path")),
    Kind("electron_legs", "Electron-HLT-DataEff", (*_EGM, "Path")),
    # the first of these that a directory has holds: by Et, by pt, and for energies that are corrected already
    Kind("electrons", r"\w*SmearAndSyst\w*", prefer=("ElePTsplit",), unless="(?i)pho"),
    Kind("electrons", r"\w*Smearing\w*", unless="(?i)pho"),
    Kind("electrons", r"\w*-EGM_ScaleUnc", ("year",), unless="(?i)pho"),
    Kind("photon_id", "(?:UL-)?Photon-ID-SF", _EGM),
    Kind("photon_pixel_veto", "(?:UL-)?Photon-PixVeto-SF", ("ValType",)),
    Kind("photon_csev", "(?:UL-)?Photon-CSEV-SF", ("ValType",)),
    Kind("photons", r"\w*SmearAndSyst\w*", of="(?i)pho"),
    Kind("photons", r"\w*Smearing\w*", of="(?i)pho"),
    Kind("muons", "cb_params", ("abseta",)),
    Kind("muon_reco", "NUM_(?:Tracker|Global)Muons_DEN_genTracks", _SF, ("Tracker",), low=False),
    Kind("muon_id", r"NUM_\w+ID_DEN_\w+(?<!Probes)", _SF, ("MediumID_DEN_Tracker", "Medium"), low=False),
    Kind("muon_iso", r"NUM_(?!probe)\w+Iso_DEN_\w+", _SF, _ISO, low=False),
    Kind("muon_trigger", r"NUM_(?:Iso)?Mu\d+\w*_DEN_\w+", _SF, ("IsoMu24_DEN.*Medium", "IsoMu")),
    Kind("muon_low_pt_id", r"NUM_\w+ID_DEN_\w+", _SF, low=True),
    Kind("muon_high_pt_reco", r"NUM_GlobalMuons_DEN_\w+Probes", ("eta", "p")),
    Kind("muon_high_pt_id", r"NUM_\w+ID_DEN_\w+Probes", _SF, ("_HighPtID",)),
    Kind("muon_high_pt_iso", r"NUM_probe_\w+Iso_DEN_\w+Probes", _SF, ("Tight.*_HighPt",)),
    Kind("muon_high_pt_trigger", r"NUM_HLT_DEN_\w+Probes", _SF, ("DEN_HighPtTight",)),
    Kind("btag", "deepJet_shape", _SHAPE, free="systematic"),
    Kind("btag_{}", r"(?!deepJet)(\w+)_shape", _SHAPE, free="systematic"),
    Kind("b_tags", r"\w+_wp_values", ("working_point",), ("UParT", "particleNet", "deepJet"), unless="(?i)ctag"),
    Kind("ctag_{}", r"(\w+)_shape", ("systematic", "flavor", "CvL", "CvB"), free="systematic"),
    Kind("subjet_btag_heavy", r"\w+_subjet", ("working_point", "flavor"), fixed={"method": "lt|mujets"}),
    Kind("subjet_btag_light", r"\w+_subjet", ("working_point", "flavor"), fixed={"method": "incl|light"}),
    Kind("taus", "tau_energy_scale", ("dm", "genmatch"), _TAU),
    Kind("tau_id_jets", r"DeepTau\w+VSjet", ("genmatch", "wp"), _TAU, {"flag": "pt"}),
    Kind("tau_id_electrons", r"DeepTau\w+VSe", ("genmatch", "wp"), _TAU),
    Kind("tau_id_muons", r"DeepTau\w+VSmu", ("genmatch", "wp"), _TAU, {"wp": "Tight"}),
    Kind("tau_trigger", "tau_trigger", ("trigtype", "corrtype"), _TAU, {"corrtype": "sf"}),
    Kind("{}", r"(\w+Top\w*_Nominal|Top_tagging\w+|\w+_W_\w+)", ("workingpoint",)),
)  # fmt: skip
"""The kinds of corrections, in the order of a proposed file. Of several kinds with the same entry, the first that a tree has is taken."""


def years_of(texts: Iterable[str]) -> set[str]:
    """The years of data-taking that names say, as 18: of a campaign such as Summer19UL18, that of the data."""
    return {next(filter(None, match.groups())) for match in map(_YEAR.search, texts) if match}


def unknown_inputs(correction: Correction) -> list[str]:
    """The numbers that it needs of events, but that NanoAOD does not have."""
    axes = correction.axes.items()
    numbers = [name for name, axis in axes if axis.type != "string" and not _OF_PAIR.fullmatch(name)]
    return [name for name in numbers if f" {name.lower()} " not in f" {_KNOWN}"]


def _legs(entry: str, path: str, data: Correction, era: str) -> Iterator[str]:
    """The entry of the efficiencies of triggers, with a leg to be chosen."""
    inputs = fixed_inputs(data, {}, era=era)
    chosen, paths = inputs.pop("Path"), list(map(str, data.axes["Path"].keys))
    names = f"data: {{name: {data.name}}}, simulation: {{name: {data.name.replace('Data', 'Mc')}}}"
    more = f"inputs: {json.dumps(inputs)}, legs: {{single: {{Path: {json.dumps(chosen)}}}}}"
    yield f"{entry}: {{file: {quoted(path)}, {names}, {more}}}"
    yield f"# legs may also be leading and trailing; Path may be {', '.join(paths)}"


def _electrons(entry: str, path: str, file: CorrectionFile, name: str, era: str) -> str:
    """The entry of the energy scale and resolution of electrons or photons."""
    if name.endswith("ScaleUnc"):
        year = fixed_inputs(file[name], {}, era=era)["year"]
        return f"{entry}: {{file: {quoted(path)}, uncertainty: {name}, inputs: {{year: {json.dumps(year)}}}}}"
    scales = [each for each in file.names if "Scale" in each]  # products come first
    part = name.rpartition("_")[2]
    scale = quoted(min(scales, key=lambda each: part not in each)) if scales else "..."
    return f"{entry}: {{file: {quoted(path)}, scale: {scale}, smearing: {quoted(name)}}}"


def _met_xy(path: str, correction: Correction, era: str) -> str:
    """The entry of the modulation of the missing momentum in phi: of Puppi in Run 3, where one correction has all."""
    axes, short = correction.axes, re.sub(r"^.*Summer(\d\d)", r"20\1", era)
    missing = "PuppiMET" if any("PuppiMET" in axis.keys for axis in axes.values()) else "MET"
    epochs = sorted((str(it) for it in axes["epoch"].keys if str(it) in short), key=len) if "epoch" in axes else []
    more = "".join(f", inputs: {{epoch: {json.dumps(it)}}}" for it in epochs[-1:])
    return f"met_xy: {{file: {quoted(path)}, missing_momentum: {missing}{more}}}"


def _jets(entry: str, path: str, file: CorrectionFile, name: str) -> Iterator[str]:
    """The entry of the energy scale and resolution of jets, with the runs of each part of the data."""
    scales = [match for match in (re.fullmatch(_SCALE.format("AK"), each) for each in file.names) if match]
    simulation, algorithm = next((it["campaign"], it["algorithm"]) for it in scales if it[0] == name)
    campaigns = [it["campaign"] for it in scales if it["algorithm"] == algorithm and it["campaign"] != simulation]
    yield from (
        f"{entry}:",
        f"  file: {quoted(path)}",
        f"  algorithm: {algorithm}",
        "  jec:",
        f"    simulation: {simulation}",
    )
    known, others = run_ranges([each for each in campaigns if each.endswith("_DATA")])
    yield from ["    data:", *(f"      {runs}: {campaign}" for runs, campaign in known.items())] if known else []
    yield from (
        f"    # data: {{FIRST-LAST: {campaign}}}, of which NanoML does not know the runs" for campaign in others
    )
    way = (
        "SFUncertainty, as since" if any("_SFUncertainty_" in each for each in file.names) else "systematic, as before"
    )
    resolutions = [
        each.partition("_PtResolution_")[0] for each in file.names if each.endswith(f"_PtResolution_{algorithm}")
    ]
    for each in sorted(resolutions, key=lambda each: not each.endswith("_MC"))[:1]:
        yield f"  jer: {each}  # up and down by {way} June 2026"
    if not resolutions:
        yield f"  # no jer, since the file has no PtResolution_{algorithm}: jets of simulation are not smeared"
    if "Puppi" in algorithm and entry == "jets":
        yield "  missing_momentum: PuppiMET"
        if max(years_of([simulation]), default="22") >= "22":
            yield "  matched_only: 2.5-3.0  # in Run 3"
    start, end = f"{simulation}_", f"_{algorithm}"
    sources = [each[len(start) : -len(end)] for each in file.names if each.startswith(start) and each.endswith(end)]
    sources = sorted((it for it in sources if it not in _LEVELS), key=lambda it: it != "Total")
    yield f"  sources: [{', '.join(sources[:1])}]"
    yield f"# sources may be {', '.join(sources)}"
    versions = [each for each in campaigns if each.endswith("_MC")]
    yield from [f"# simulation may be {', '.join(versions)}"] if versions else []


def run_ranges(campaigns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Campaigns of data by their runs, first to last, after the periods in their names; and those of which no period is known."""
    periods = list(_PERIODS)
    known: dict[str, tuple[int, int]] = {}
    for campaign in campaigns:
        found = re.search(r"_Run(?:20\d\d)?([A-Z]+)(v\d+|nib\d)?(?:_|$)", campaign)
        year = "".join(years_of([campaign]))
        parts = [f"{year}{letter}" for letter in (found[1] if found else "") if f"{year}{letter}" in _PERIODS]
        if found and parts:
            later = (it for it in periods[periods.index(parts[-1]) :] if not it.startswith(parts[-1]))
            first = _PERIODS.get(f"{parts[0]}{found[2] or ''}", _PERIODS[parts[0]])
            known[campaign] = first, _PERIODS[next(later, periods[-1])] - 1
    made = {}
    for campaign, (first, last) in sorted(known.items(), key=lambda item: item[1]):
        made[f"{first}-{min([last, *(other - 1 for other, _ in known.values() if other > first)])}"] = campaign
    return made, [campaign for campaign in campaigns if campaign not in known]
