from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from MLTools.NanoML.doctor import kerberos


def test_the_ticket(program: Callable[[str, str], Path]) -> None:
    program("klist", '[ "$1" = -s ]')
    assert kerberos.ticket().fine
    program("klist", "exit 1")
    assert not kerberos.ticket().fine
    assert kerberos.ticket().mend == "kinit"


def test_no_kerberos(nothing: Path) -> None:
    assert "klist is not in the PATH" in kerberos.ticket().found
