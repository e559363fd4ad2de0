"""Kerberos: the ticket that CERN's AFS, EOS and HTCondor ask for."""

from __future__ import annotations

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import ask, has

__all__ = ["ticket"]


def ticket() -> Finding:
    """Check that there is a ticket, and that it has not expired."""
    if not has("klist"):
        return Finding(False, "klist is not in the PATH; only machines of CERN ask for a ticket", "kinit")
    if ask(["klist", "-s"]).code != 0:
        return Finding(False, "no ticket, or an expired one", "kinit")
    return Finding(True, "there is a ticket")
