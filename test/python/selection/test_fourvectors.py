from __future__ import annotations

import subprocess
import sys

import pytest

from MLTools.NanoML.selection.fourvectors import vector_package

FRESH = """
import sys
{before}
from MLTools.NanoML.selection.fourvectors import vector_package
vector = vector_package()
print("sympy" in sys.modules)
import sympy
assert sympy.Symbol("x") - sympy.Symbol("x") == 0
assert vector.array({{"pt": [3.0], "eta": [0.0], "phi": [0.0], "mass": [4.0]}}).energy.tolist() == [5.0]
"""


def test_it_is_the_package_vector() -> None:
    import vector

    assert vector_package() is vector


@pytest.mark.parametrize(("before", "found"), [("", "False"), ("import sympy", "True")])
def test_sympy_is_not_imported_for_it(before: str, found: str) -> None:
    pytest.importorskip("sympy")
    line = [sys.executable, "-c", FRESH.format(before=before)]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip() == found


def test_sympy_can_be_imported_afterwards_also_where_vector_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def failing(name: str) -> None:
        assert sys.modules["sympy"] is None
        raise ImportError(name)

    for name in [each for each in sys.modules if each.split(".")[0] in ("sympy", "vector")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(ImportError, match="vector"):
        vector_package()
    assert "sympy" not in sys.modules
