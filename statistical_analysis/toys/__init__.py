"""Pseudo-experiments: limits and significances where few events are expected."""
