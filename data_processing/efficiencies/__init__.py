"""Efficiencies, as of b-tagging, in the simulation of an analysis."""

PAGE = "howto/corrections.md"
