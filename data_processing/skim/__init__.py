"""Skims: NanoAOD in, the selected events out."""
