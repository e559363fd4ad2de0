"""Merging of NanoAOD files."""
