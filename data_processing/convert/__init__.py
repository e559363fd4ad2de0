"""Conversion of ROOT files to HDF5, and shuffling."""

PAGE = "hdf5.md"
