"""Merging of NanoAOD files."""

PAGE = "skim.md"
