"""Finds the packages, which pyproject.toml cannot: python/ is called MLTools.NanoML, as in CMSSW.

The parts are taken if they are there: each works without the others.
"""

from __future__ import annotations

from setuptools import find_packages, setup

PARTS = ("data_processing", "ML_processing", "statistical_analysis")

setup(
    packages=[
        "MLTools.NanoML",
        *(f"MLTools.NanoML.{name}" for name in find_packages("python")),
        *find_packages(include=[f"{part}{ending}" for part in PARTS for ending in ("", ".*")]),
    ],
    package_dir={"MLTools.NanoML": "python"},
)
