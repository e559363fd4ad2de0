"""The ttbar analysis of the Analysis Grand Challenge by NanoML, and by coffea and RDataFrame as published, on the same files.

    python bench/opendata.py --coffea DIR --coffea-python PYTHON --rdataframe DIR --rdataframe-python PYTHON

DIR is the directory analyses/cms-open-data-ttbar of a clone of github.com/iris-hep/analysis-grand-challenge or of
github.com/root-project/analysis-grand-challenge, which is read, and not changed; PYTHON has the packages that it needs. A side whose
directory is not given is left out. The files have the layout of those of 2015 and invented events. All sides run from the start of
the command to histograms in a ROOT file, on one core; coffea's with its own processes, and without its machine learning. Then the
histograms are compared, bin by bin, and the lines are counted, without blank ones and comments. What does not depend on the number of
events, such as imports and compilation, is measured with small files, and told apart.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import uproot
from common import CHECKOUT, Took, in_turns, parser

sys.path.append(str(CHECKOUT / "test"))
from services.opendata import of_this_machine, write_2015

EXAMPLES = CHECKOUT / "examples"
BINS = "[25, 50, 550]"  # those of the challenge, before it joins them for the fit
SMALL = 1000  # events in each file of the runs that measure the start
REGIONS = {"4j1b": ("HT", "CR_4j1b"), "4j2b": ("trijet_mass", "SR_4j2b")}
# what the challenge's histograms end with, by the ends of ours; of its one-sided variations we have the mirror image, too
ENDINGS = {
    "": "",
    **{f"_btag_{jet}{way}": f"_btag_var_{jet}_{way.lower()}" for jet in range(4) for way in ("Up", "Down")},
    **{f"_{name}Up": f"_{name}_up" for name in ("pt_scale", "pt_res")},
    **{f"_{name}Up": f"_{name}_var" for name in ("ME", "PS")},
    **{f"_scale{way}": f"_scale{way.lower()}" for way in ("Up", "Down")},
}
COFFEA = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
import utils
utils.config["benchmarking"]["NUM_CORES"] = 1
code = Path("ttbar_analysis_pipeline.py").read_text().partition("# ### Inspecting the produced histograms")[0]
for before, after in (("N_FILES_MAX_PER_SAMPLE = 5", "N_FILES_MAX_PER_SAMPLE = -1"), ("USE_DASK = True", "USE_DASK = False"),
                      ("USE_INFERENCE = True", "USE_INFERENCE = False")):
    assert before in code, before
    code = code.replace(before, after)
exec(compile(code, "ttbar_analysis_pipeline.py", "exec"))
utils.file_output.save_histograms(all_histograms["hist_dict"], "histograms.root")
"""
# files with what the others need from files to histograms, without plots, fits and machine learning; and up to where a file is counted
LINES = {
    "coffea": {"ttbar_analysis_pipeline.py": "# ### Inspecting", "make_corrections_json.py": ""}
    | {f"utils/{name}.py": "" for name in ("__init__", "config", "file_input", "file_output", "systematics")},
    "RDataFrame": {"analysis.py": "", "helpers.h": "", "utils.py": ""},
}


def make(folder: Path, events: int) -> None:
    """The files of a run, its analysis for NanoML, and the list of files for the others."""
    text = (EXAMPLES / "agc.yaml").read_text()
    (folder / "data").mkdir(parents=True)
    found = re.findall(r"\n  (\w+):\n    files: root:\S*/([\w.-]+)", text)
    inputs: dict[str, dict[str, object]] = {}
    for seed, (dataset, name) in enumerate(found):
        write_2015(folder / "data" / name, events, seed, 0.5 if "ttbar" in dataset else 0.1)
        process, _, variation = dataset.partition("_") if dataset.startswith("ttbar") else (dataset, "", "")
        listed = {"path": str(folder / "data" / name), "nevts": events}
        inputs.setdefault(process, {})[variation or "nominal"] = {"nevts_total": events, "files": [listed]}
    (folder / "nanoaod_inputs.json").write_text(json.dumps(inputs))
    text = of_this_machine(text, folder / "data").replace("[11, 110, 550]", BINS)
    (folder / "agc.yaml").write_text(text)
    (folder / "agc.py").write_text((EXAMPLES / "agc.py").read_text())


def command(side: str, folder: Path, python: str, published: str) -> list[str]:
    """The command of a side, after a change into an empty directory where it leaves its results."""
    place = folder / side
    place.mkdir(exist_ok=True)
    os.chdir(place)
    if side == "NanoML":
        nanoml = [str(Path(sys.executable).with_name("nanoml")), "run", str(folder / "agc.yaml")]
        return [*nanoml, "--to", "histogram", "--force"]
    for path in Path(published).iterdir():
        if path.name != "nanoaod_inputs.json" and not (place / path.name).exists():
            (place / path.name).symlink_to(path)
    if not (place / "nanoaod_inputs.json").exists():
        (place / "nanoaod_inputs.json").symlink_to(folder / "nanoaod_inputs.json")
    if side == "coffea":
        return [python, "-c", COFFEA]
    return [python, "analysis.py", "--no-fitting", "--ncores", "1", "--output", "histograms.root"]


def histograms(side: str, folder: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """The sums of weights in all bins of a side, by the challenge's names."""
    if side != "NanoML":
        with uproot.open(folder / side / "histograms.root") as file:
            return {name: file[name].values() for name in file.keys(cycle=False)}
    found = {}
    with uproot.open(folder / "agc" / "histograms" / "histograms.root") as file:
        for region, (quantity, channel) in REGIONS.items():
            for process in processes(folder):
                for ending, theirs in ENDINGS.items():
                    name = f"{quantity}/{channel}/{process}{ending}"
                    if name in file:
                        found[f"{region}_{process}{theirs}"] = file[name].values()
            for way, factor in (("up", 1.025), ("down", 0.975)):  # for us a yield, in the fit
                found[f"{region}_wjets_scale_var_{way}"] = factor * found[f"{region}_wjets"]
    return found


def processes(folder: Path) -> list[str]:
    """The names of the processes."""
    return list(json.loads((folder / "nanoaod_inputs.json").read_text()))


def differences(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> str:  # type: ignore[type-arg]
    """How many histograms of ours and theirs are equal, and which differ."""
    names = {name for name in theirs if "pseudodata" not in name}
    both = sorted(names & ours.keys())
    differing = [name for name in both if not np.allclose(ours[name], theirs[name], rtol=1e-5, atol=0)]
    text = f"{len(both) - len(differing)} of {len(both)} histograms are equal"
    for about, found in (("those that differ", differing), ("only on one side", sorted(names ^ ours.keys()))):
        text += f"; {about}: {', '.join(found)}" if found else ""
    return text


def lines(path: Path, up_to: str = "") -> int:
    """The lines of a file that are neither blank nor comments."""
    text = path.read_text()
    text = text.partition(up_to)[0] if up_to else text
    return sum(1 for line in map(str.strip, text.splitlines()) if line and not line.startswith(("#", "//")))


def main() -> None:
    """Make the files, run the sides, compare."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=200_000, help="in each of nine files")
    options.add_argument("--turns", type=int, default=2)
    for side in ("coffea", "rdataframe"):
        options.add_argument(f"--{side}", default="", metavar="DIR")
        options.add_argument(f"--{side}-python", default=sys.executable, metavar="PYTHON")
    given = options.parse_args()
    if given.only:
        side, folder, python, published = given.only
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        Took.by_command(command(side, Path(folder), python, published)).tell()
        return
    sides = {"NanoML": ("-", "-")}
    sides |= {"coffea": (given.coffea_python, given.coffea)} if given.coffea else {}
    sides |= {"RDataFrame": (given.rdataframe_python, given.rdataframe)} if given.rdataframe else {}
    with tempfile.TemporaryDirectory() as directory:
        folders = {size: Path(directory, str(size)) for size in (SMALL, given.events)}
        for size, folder in folders.items():
            make(folder, size)
        calls = {(side, size): (side, folders[size], *sides[side]) for size in folders for side in sides}
        took = in_turns(__file__, calls, given.turns)
        found = {side: histograms(side, folders[given.events]) for side in sides}
    for side in sides:
        begin, whole = took[side, SMALL], took[side, given.events]
        rate = 9 * (given.events - SMALL) / (whole.processor - begin.processor)
        sys.stdout.write(
            f"{side:10} {whole.time:6.1f} s, {whole.processor:6.1f} s of the processor, {begin.processor:.1f} of them the start; then "
            f"{rate:,.0f} events/s; {whole.memory:.0f} MB\n"
        )
    sys.stdout.write(f"NanoML: {lines(EXAMPLES / 'agc.py')} lines of Python, {lines(EXAMPLES / 'agc.yaml')} of YAML\n")
    for side in [side for side in sides if side != "NanoML"]:
        counted = sum(lines(Path(sides[side][1], name), up_to) for name, up_to in LINES[side].items())
        sys.stdout.write(f"{side}: {counted} lines; {differences(found['NanoML'], found[side])}\n")


if __name__ == "__main__":
    main()
