"""Python imports this as it starts if the directory is in PYTHONPATH: warnings that our code causes become errors.

The options -W and PYTHONWARNINGS cannot do it, since they name a single module, not a package.
"""

from __future__ import annotations

import warnings

warnings.filterwarnings(
    "error", module=r"(__main__|MLTools\.NanoML|data_processing|ML_processing|statistical_analysis|test|services)(\.|$)"
)
# a program that reads what another one is about to write compiles it itself
warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")
