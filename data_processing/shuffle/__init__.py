"""Shuffling of HDF5 files."""
