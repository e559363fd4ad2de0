"""A selection as a module of nanoAOD-tools: `nano_postproc.py OUT IN.root -I MLTools.NanoML.trilepton trilepton`.

One line at the end of a selection's file makes it a module::

    trilepton = postproc_module(Trilepton)

In a script it is `PostProcessor(..., modules=[trilepton()])`. Cuts, luminosity JSON, ranges of entries, friend trees
and prefetching work as with any module, and a module can read what earlier ones made. The columns are computed for many
events at once, from the file that nanoAOD-tools has open, when it reaches the first of these events.

ROOT and nanoAOD-tools are not imported before nanoAOD-tools runs.
"""

from __future__ import annotations

from MLTools.NanoML.nanoaodtools.module import PostprocModule, postproc_module

PAGE = "skim.md"
__all__ = ["PostprocModule", "postproc_module"]
