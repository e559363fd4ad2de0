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
}
"""By their names in doc/images, where they are in the directory of the examples."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", nargs="?", type=Path, default=IMAGES.parents[1] / "examples")
    for name, path in FIGURES.items():
        figure = Image.open(parser.parse_args().examples / path).convert("RGB")
        figure.thumbnail((_WIDTH, 2 * _WIDTH))
        figure.quantize(64).save(IMAGES / f"example-{name}.png", optimize=True)
