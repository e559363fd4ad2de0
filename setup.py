"""Finds the packages, which pyproject.toml cannot: python/ is called MLTools.NanoML, as in CMSSW.

data_processing and ML_processing are taken if they are there: each part works without the other.
"""

from __future__ import annotations

from setuptools import find_packages, setup

setup(
    packages=[
        "MLTools.NanoML",
        *(f"MLTools.NanoML.{name}" for name in find_packages("python")),
        *find_packages(include=["data_processing", "data_processing.*", "ML_processing", "ML_processing.*"]),
    ],
    package_dir={"MLTools.NanoML": "python"},
)
