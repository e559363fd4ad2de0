"""A CRAB job: skims and scores the files that PSet.py names, as job.json says."""

from __future__ import annotations

import sys

# both lie beside this file in the job's directory
import PSet  # type: ignore[import-not-found]

from data_processing.crab.job import main

sys.exit(main(PSet.process))
