"""Python imports this as it starts if the directory is in PYTHONPATH: warnings that our code causes become errors.

The options -W and PYTHONWARNINGS cannot do it, since they name a single module, not a package. Where nobody looks at
figures, NANOML_TEST_WHITE_FIGURES has them white, as the fixture `white_figures`.
"""

from __future__ import annotations

import os
import sys
import warnings

warnings.filterwarnings(
    "error", module=r"(__main__|MLTools\.NanoML|data_processing|ML_processing|statistical_analysis|test|services)(\.|$)"
)
# a program that reads what another one is about to write compiles it itself
warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")


class _White:
    """Changes the module of figures as it is imported, so that programs without figures do not import it."""

    def find_spec(self, name, path, target=None):
        if name != "matplotlib.figure":
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            module.Figure.draw = lambda figure, renderer: None

        spec.loader.exec_module = execute_and_change
        return spec


if os.environ.get("NANOML_TEST_WHITE_FIGURES"):
    sys.meta_path.insert(0, _White())
