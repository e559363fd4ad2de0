"""Copies figures of the worked examples, smaller: after `make demo`, python doc/example_figures.py writes doc/images/example-*.png."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent / "images"
_WIDTH = 500  # pixels
FIGURES = {
    "scores": "trilepton/training/scores.png",
    "histogram": "wz/histograms/signal_SR.png",
    "fit": "wz/fit/postfit_SR_2018.png",
    "limit": "wz/fit/limit.png",
    "impacts": "wz/fit/impacts.png",
    "closure": "wz/ratios/SR_2018_classes.png",  # only with `unbinned: {regions: [SR], seeds: 2, epochs: 60}` in the section fit
}
"""By their names in doc/images, where they are in the directory of the examples."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", nargs="?", type=Path, default=IMAGES.parents[1] / "examples")
    for name, path in FIGURES.items():
        if not (source := parser.parse_args().examples / path).exists():
            continue
        figure = Image.open(source).convert("RGB")
        width = 2 * _WIDTH if name == "closure" else _WIDTH  # it has four columns
        figure.thumbnail((width, 2 * width))
        figure.quantize(64).save(IMAGES / f"example-{name}.png", optimize=True)
