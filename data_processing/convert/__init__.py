"""Conversion of ROOT files to HDF5, and shuffling."""
