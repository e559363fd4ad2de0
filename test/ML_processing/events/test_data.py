"""Labelled events: read from HDF5 files block by block, in tables."""

from __future__ import annotations
