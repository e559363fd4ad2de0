"""Runs modules of nanoAOD-tools, which take one event at a time, without CMSSW and without ROOT."""

from __future__ import annotations

from data_processing.eventloop.chain import ModuleChain
from data_processing.eventloop.loading import load_module

__all__ = ["ModuleChain", "load_module"]
