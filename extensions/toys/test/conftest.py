"""Histograms to fit."""

from __future__ import annotations

from services.histograms import few_events, luminosity, settings, templates

__all__ = ["few_events", "luminosity", "settings", "templates"]
