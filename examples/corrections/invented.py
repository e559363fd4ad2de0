"""Makes the correction files of the example: invented numbers, in the form that CMS's object groups give theirs.

    python examples/corrections/invented.py

They show the way and are good for nothing else. The real files are on CVMFS, where only members of CMS may read some.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NOTE = "INVENTED numbers for the example of NanoML, in the form of the object groups' files. Not for any result."
PT, ETA = (15.0, 30.0, 60.0, 120.0, math.inf), (0.0, 0.9, 1.2, 2.1, 2.4)
SUPERCLUSTER = (-math.inf, -2.0, -1.566, -0.8, 0.0, 0.8, 1.566, 2.0, math.inf)
JET_ETA = (-5.191, -3.0, -2.5, -1.3, 0.0, 1.3, 2.5, 3.0, 5.191)
ERAS = {"2018": (32.0, 0.99, 1.00), "2022": (38.0, 0.98, 1.01)}  # mean pile-up, scale of leptons, scale of jets


def category(name: str, values: dict[Any, Any]) -> dict[str, Any]:
    """A node that chooses by a key."""
    return {"nodetype": "category", "input": name, "content": [{"key": key, "value": v} for key, v in values.items()]}


def binning(name: str, edges: Sequence[float], content: Sequence[Any], flow: Any = "clamp") -> dict[str, Any]:
    """A node that chooses by a bin."""
    return {"nodetype": "binning", "input": name, "edges": list(edges), "content": list(content), "flow": flow}


def formula(expression: str, *variables: str) -> dict[str, Any]:
    """A node that computes."""
    return {"nodetype": "formula", "expression": expression, "parser": "TFormula", "variables": list(variables)}


def correction(name: str, inputs: dict[str, str], data: Any, text: str = "") -> dict[str, Any]:
    """A correction of a file; `inputs` have their types."""
    given = [{"name": key, "type": type_} for key, type_ in inputs.items()]
    output = {"name": "weight", "type": "real"}
    description = f"{text} {NOTE}".strip()
    return {"name": name, "description": description, "version": 1, "inputs": given, "output": output, "data": data}


def up_and_down(middle: float, width: float, names: Sequence[str]) -> dict[str, float]:
    """The nominal value and its variations."""
    return {name: round(middle + shift * width, 5) for name, shift in zip(names, (0, 1, -1))}


def pileup(mean: float) -> list[dict[str, Any]]:
    """LUM: data over simulation, as that of the sample data, which has a mean of 33.6."""

    def weights(expected: float) -> list[float]:
        spectrum = [math.exp(-0.5 * ((n + 0.5 - expected) / 9) ** 2) for n in range(100)]
        simulated = [math.exp(-0.5 * ((n + 0.5 - 33.6) / 11.2) ** 2) for n in range(100)]
        scale = sum(simulated) / sum(spectrum)
        return [round(min(d / s * scale, 10.0), 5) for d, s in zip(spectrum, simulated)]

    edges = [float(n) for n in range(101)]
    shifted = {"nominal": mean, "up": 1.046 * mean, "down": 0.954 * mean}
    nodes = {key: binning("NumTrueInteractions", edges, weights(value)) for key, value in shifted.items()}
    return [correction("Collisions", {"NumTrueInteractions": "real", "weights": "string"}, category("weights", nodes))]


def muons(scale: float) -> list[dict[str, Any]]:
    """MUO: identification and trigger."""
    names, inputs = ("nominal", "systup", "systdown"), {"eta": "real", "pt": "real", "scale_factors": "string"}
    made = []
    for name, lowest in (("NUM_HighPtID_DEN_TrackerMuons", 0.0), ("NUM_IsoMu24_DEN_CutBasedIdTight", -0.03)):
        rows = [
            binning(
                "pt", PT,
                [
                    category("scale_factors", up_and_down(scale + lowest - 0.004 * e + 0.002 * p, 0.003 + 0.002 * p, names))
                    for p in range(len(PT) - 1)
                ], "error",
            )
            for e in range(len(ETA) - 1)
        ]  # fmt: skip
        data = {
            "nodetype": "transform",
            "input": "eta",
            "rule": formula("abs(x)", "eta"),
            "content": binning("eta", ETA, rows, "error"),
        }
        made.append(correction(name, inputs, data))
    return made


def electrons(year: str, scale: float) -> list[dict[str, Any]]:
    """EGM: reconstruction and identification in one correction."""
    pts = {
        "RecoBelow20": (10.0, 20.0),
        "RecoAbove20": (20.0, math.inf),
        "Loose": (10.0, 35.0, 100.0, math.inf),
        "Tight": (10.0, 35.0, 100.0, math.inf),
    }

    def point(name: str, shift: int) -> dict[str, Any]:
        edges = pts[name]
        content = [
            round(scale - 0.003 * abs(e - 3.5) + 0.004 * p + shift * (0.006 + 0.003 * p), 5)
            for e in range(len(SUPERCLUSTER) - 1)
            for p in range(len(edges) - 1)
        ]
        return {
            "nodetype": "multibinning",
            "inputs": ["eta", "pt"],
            "edges": [list(SUPERCLUSTER), list(edges)],
            "content": content,
            "flow": "error",
        }

    kinds = {"sf": 0, "sfup": 1, "sfdown": -1}
    data = category(
        "ValType",
        {kind: category("WorkingPoint", {name: point(name, shift) for name in pts}) for kind, shift in kinds.items()},
    )
    inputs = {"year": "string", "ValType": "string", "WorkingPoint": "string", "eta": "real", "pt": "real"}
    return [correction("Electron-ID-SF", inputs, category("year", {year: data}))]


def muon_momentum() -> list[dict[str, Any]]:
    """MUO: the momentum scale m / pt + q a, and what the resolution of simulation lacks."""
    etas, phis, layers = [-2.4, -0.9, 0.9, 2.4], [-3.2, 0.0, 3.2], [0.0, 10.5, 13.5, 100.0]
    absetas = (0.0, 0.9, 1.6, 2.4)

    def in_direction(middle: float, step: float, error: float) -> dict[str, Any]:
        def at(e: int, p: int) -> dict[str, Any]:
            values = {
                "nom": round(middle + step * (e - p), 6),
                "stat": round(error * (1 + e), 7),
                "rho_stat": round(0.2 * (e - 1), 2),
            }
            return category("variation", values)

        rows = [binning("phi", phis, [at(e, p) for p in range(2)]) for e in range(3)]
        return binning("eta", etas, rows)

    def in_abseta(content: Callable[[int], Any]) -> dict[str, Any]:
        return binning("abseta", absetas, [content(e) for e in range(3)])

    def with_layers(values: Callable[[int, int], Sequence[float]]) -> dict[str, Any]:
        def at(e: int, n: int) -> dict[str, Any]:
            return category("parameter", {number: round(value, 8) for number, value in enumerate(values(e, n))})

        return in_abseta(lambda e: binning("nTrackerLayers", layers, [at(e, n) for n in range(3)]))

    def factor(middle: float) -> dict[str, Any]:
        return in_abseta(lambda e: category("variation", {"nom": round(middle + 0.03 * e, 4), "stat": 0.01}))

    direction = {"eta": "real", "phi": "real", "variation": "string"}
    place = {"abseta": "real", "nTrackerLayers": "real", "parameter": "int"}
    made = [
        correction(f"{name}_{kind}", direction, in_direction(middle + shift, step, error))
        for kind, shift in (("data", 1e-4), ("mc", 0.0))
        for name, middle, step, error in (("m", 0.999, 5e-4, 2e-5), ("a", 2e-5, 1e-5, 1e-6))
    ]
    made += [
        correction(f"k_{kind}", {"abseta": "real", "variation": "string"}, factor(middle))
        for kind, middle in (("data", 1.15), ("mc", 1.05))
    ]
    resolutions = with_layers(lambda e, n: (0.01 + 0.004 * e - 0.001 * n, 5e-5, 1e-8))
    balls = with_layers(lambda e, n: (0.01 * (e - 1), 0.95 + 0.02 * e, 5.0 + n, 1.3 + 0.1 * n))
    return [*made, correction("poly_params", place, resolutions), correction("cb_params", place, balls)]


def electron_uncertainty(year: str) -> list[dict[str, Any]]:
    """EGM: the uncertainty of the energy scale, where energies in NanoAOD are corrected already."""

    def at_gain(sign: int, offset: float) -> dict[str, Any]:
        sizes = {12: 0.001, 6: 0.006, 1: 0.012}
        edges = [-math.inf, -1.442, 1.442, math.inf]
        rows = {
            gain: [round(offset + sign * size * (1 + abs(e - 1)), 5) for e in range(3)] for gain, size in sizes.items()
        }
        return category("gain", {gain: binning("eta", edges, values, "error") for gain, values in rows.items()})

    kinds = {"scaleup": at_gain(1, 1.0), "scaledown": at_gain(-1, 1.0), "scaleunc": at_gain(1, 0.0)}
    inputs = {"year": "string", "ValType": "string", "eta": "real", "gain": "int"}
    return [correction("UL-EGM_ScaleUnc", inputs, category("year", {year: category("ValType", kinds)}))]


def electron_energy(scale: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """EGM: the energy scale of data, a product of two, and the smearing of simulation with both uncertainties."""
    by_run = binning("run", (1.0, 356000.0, 357500.0, 400000.0), [1.0, 1.002, round(scale - 0.005, 5)])
    by_pt = binning("pt", (0.0, 30.0, 60.0, 10000.0), [1.004, 1.002, 0.999])
    steps = [
        correction("ScaleVsRun", {"run": "real"}, by_run),
        correction(
            "ScaleVsPt",
            {"syst": "string", "pt": "real", "r9": "real", "seedGain": "real"},
            category("syst", {"scale": by_pt, "escale": 0.001}),
        ),
    ]

    def in_eta(size: float, base: float = 0.0) -> dict[str, Any]:
        wide = [round(base + size * (1 + 0.4 * abs(e - 3.5)), 5) for e in range(len(SUPERCLUSTER) - 1)]
        low = [round(base + 1.2 * size * (1 + 0.4 * abs(e - 3.5)), 5) for e in range(len(SUPERCLUSTER) - 1)]
        rows = [binning("ScEta", SUPERCLUSTER, values) for values in (low, wide)]
        return binning("r9", (0.0, 0.96, 10.0), rows)

    sizes = {"smear": in_eta(0.01), "esmear": in_eta(0.002), "smear_up": in_eta(0.012), "smear_down": in_eta(0.008)}
    sizes.update(escale=in_eta(0.001), scale_up=in_eta(0.001, 1.0), scale_down=in_eta(-0.001, 1.0))
    inputs = {"syst": "string", "pt": "real", "r9": "real", "ScEta": "real"}
    given = {"syst": "string", "run": "real", "ScEta": "real", "r9": "real", "pt": "real", "seedGain": "real"}
    product = {
        "name": "Scale",
        "description": NOTE,
        "inputs": [{"name": name, "type": kind} for name, kind in given.items()],
        "output": {"name": "scale", "type": "real"},
        "inputs_update": ["pt"],
        "input_op": "*",
        "output_op": "*",
        "stack": [each["name"] for each in steps],
    }
    return [*steps, correction("SmearAndSyst", inputs, category("syst", sizes))], [product]


def btagging(scale: float) -> list[dict[str, Any]]:
    """BTV: the shape of the discriminant, and working points of heavy and of light jets."""

    def flavour(widths: dict[int, float]) -> dict[str, Any]:
        return category("flavor", {each: at_discriminant(width) for each, width in widths.items()})

    def at_discriminant(width: float) -> dict[str, Any]:
        content = [formula(f"{round(scale - 0.03 + 0.02 * b + width, 5)}+0.0001*min(x,500)", "pt") for b in range(4)]
        return binning("abseta", (0.0, 2.5), [binning("discriminant", (0.0, 0.05, 0.3, 0.7, 1.0), content)], "error")

    nodes = {"central": flavour({0: 0.0, 4: 0.0, 5: 0.01})}
    for direction, sign in (("up", 1), ("down", -1)):
        for source in ("hf", "lf", "jes"):
            nodes[f"{direction}_{source}"] = flavour({0: 0.04 * sign, 5: 0.01 + 0.03 * sign})
        nodes[f"{direction}_cferr1"] = flavour({4: 0.08 * sign})
    inputs = {"systematic": "string", "flavor": "int", "abseta": "real", "pt": "real", "discriminant": "real"}
    shape = correction("deepJet_shape", inputs, category("systematic", nodes))

    def points(name: str, widths: dict[int, float]) -> dict[str, Any]:
        def at_pt(width: float, place: int) -> dict[str, Any]:
            middle = round(scale - 0.02 * place + width, 5)
            return binning("abseta", (0.0, 2.5), [formula(f"{middle}-0.0001*min(x,500)", "pt")], "error")

        def at_point(sign: int) -> dict[str, Any]:
            each = {
                point: category("flavor", {flavour: at_pt(sign * width, place) for flavour, width in widths.items()})
                for place, point in enumerate(("L", "M", "T"))
            }
            return category("working_point", each)

        kinds = {"central": at_point(0), "up": at_point(1), "down": at_point(-1)}
        given = {"systematic": "string", "working_point": "string", "flavor": "int", "abseta": "real", "pt": "real"}
        return correction(name, given, category("systematic", kinds))

    return [shape, points("deepJet_comb", {4: 0.06, 5: 0.02}), points("deepJet_light", {0: 0.1})]


def jets(year: str, scale: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """JME: the levels of the energy scale and their product, sources of its uncertainty, and the resolution."""
    scales, resolution, algorithm = f"Invented{year}_V1", f"Invented{year}_JRV1_MC", "AK4PF"
    made, products = [], []

    def in_eta(content: Callable[[int], Any]) -> dict[str, Any]:
        return binning("JetEta", JET_ETA, [content(e) for e in range(len(JET_ETA) - 1)], 1.0)

    def add(name: str, inputs: Sequence[str], data: Any) -> str:
        types = {key: "string" if key == "systematic" else "real" for key in inputs}
        made.append(correction(f"{name}_{algorithm}", types, data))
        return f"{name}_{algorithm}"

    for kind, residual in (("MC", 0.0), ("RunA_DATA", 0.01), ("RunB_DATA", 0.02)):
        campaign = f"{scales}_{kind}"
        stack = [
            add(
                f"{campaign}_L1FastJet",
                ("JetA", "JetEta", "JetPt", "Rho"),
                in_eta(lambda e: formula("max(0.1,1-0.5*z*t/y)", "JetEta", "JetPt", "JetA", "Rho")),
            ),
            add(
                f"{campaign}_L2Relative",
                ("JetEta", "JetPt"),
                in_eta(lambda e: formula(f"{round(1.02 + 0.01 * abs(e - 3.5), 4)}+0.5/max(x,5)", "JetPt")),
            ),
            add(f"{campaign}_L3Absolute", ("JetEta", "JetPt"), in_eta(lambda e: 1.0)),
            add(
                f"{campaign}_L2L3Residual",
                ("JetEta", "JetPt"),
                in_eta(lambda e, residual=residual: round(scale + residual, 4)),
            ),
        ]
        name = f"{campaign}_L1L2L3Res_{algorithm}"
        inputs = [{"name": key, "type": "real"} for key in ("JetA", "JetEta", "JetPt", "Rho")]
        products.append(
            {
                "name": name,
                "description": NOTE,
                "inputs": inputs,
                "output": {"name": "correction", "type": "real"},
                "inputs_update": ["JetPt"],
                "input_op": "*",
                "output_op": "*",
                "stack": stack,
            }
        )
    for place, source in enumerate(("Total", "FlavorQCD", "RelativeBal", "Absolute")):
        size = (0.02, 0.012, 0.008, 0.01)[place]
        add(
            f"{scales}_MC_{source}",
            ("JetEta", "JetPt"),
            in_eta(lambda e, size=size: formula(f"{round(size * (1 + 0.2 * abs(e - 3.5)), 5)}+0.3/max(x,10)", "JetPt")),
        )
    add(
        f"{resolution}_PtResolution",
        ("JetEta", "JetPt", "Rho"),
        in_eta(lambda e: formula("sqrt(0.003+0.8/max(x,5)+0.01*y/max(x,5)/max(x,5))", "JetPt", "Rho")),
    )
    ratios = ("nom", "up", "down")
    add(
        f"{resolution}_ScaleFactor",
        ("JetEta", "systematic"),
        in_eta(lambda e: category("systematic", up_and_down(1.1 + 0.02 * abs(e - 3.5), 0.03, ratios))),
    )
    return made, products


def jet_vetoes() -> list[dict[str, Any]]:
    """JME: a map of regions without jets; what is not zero is vetoed."""
    edges = [[-5.191, -2.5, -1.3, 1.3, 5.191], [-3.1415926536, -1.57, -0.87, 3.1415926536]]
    content = [100.0 if (eta, phi) == (1, 1) else 0.0 for eta in range(4) for phi in range(3)]
    node = {"nodetype": "multibinning", "inputs": ["eta", "phi"], "edges": edges, "content": content, "flow": "error"}
    inputs = {"type": "string", "eta": "real", "phi": "real"}
    return [correction("Invented_V1", inputs, category("type", {"jetvetomap": node, "jetvetomap_all": node}))]


def write(folder: Path) -> None:
    """Write the files of all eras."""
    for year, (mean, lepton, jet) in ERAS.items():
        single, products = jets(year, jet)
        files: dict[str, tuple[list[Any], list[Any]]] = {
            "pileup": (pileup(mean), []), "muon": (muons(lepton), []), "electron": (electrons(year, lepton), []),
            "btagging": (btagging(lepton), []), "jets": (single, products), "jetvetomaps": (jet_vetoes(), []),
            "electronSS": electron_energy(lepton) if year == "2022" else (electron_uncertainty(year), []),
        }  # fmt: skip
        if year == "2022":
            files["muon_scalesmearing"] = (muon_momentum(), [])
        for name, (corrections, compound) in files.items():
            content = {"schema_version": 2, "description": NOTE, "corrections": corrections}
            if compound:
                content["compound_corrections"] = compound
            (folder / year).mkdir(exist_ok=True)
            (folder / year / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write(Path(__file__).resolve().parent)
