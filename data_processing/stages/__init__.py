"""Stages of a run, and the check of an analysis before its long work."""
