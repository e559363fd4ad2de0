"""A selection as a module of nanoAOD-tools: `nano_postproc.py OUT IN.root -I MLTools.NanoML.trilepton trilepton`.

One line at the end of a selection's file makes it one::

    trilepton = postproc_module(Trilepton)

In a script it is `PostProcessor(..., modules=[trilepton()])`. Cuts, luminosity JSON, ranges of entries, friend trees
and prefetching work as with any module, and what one module makes the next one reads. The columns are computed for
many events at once, from the file that nanoAOD-tools has open, when it comes to the first of these events.

Nothing here imports ROOT or nanoAOD-tools before nanoAOD-tools runs.
"""

from __future__ import annotations

from MLTools.NanoML.nanoaodtools.constructor import postproc_module
from MLTools.NanoML.nanoaodtools.module import PostprocModule

__all__ = ["PostprocModule", "postproc_module"]
