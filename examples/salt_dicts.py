"""Write norm_dict.yaml and class_dict.yaml for salt, from the first events of a shuffled HDF5 file: see doc/networks.md."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import yaml

EVENTS = 100_000

norms = {}
with h5py.File(sys.argv[1]) as file:
    for name in file:
        if name == "metadata":
            continue
        rows = file[name][:EVENTS]
        if "valid" in rows.dtype.names:
            rows = rows[rows["valid"]]
        columns = {field: rows[field].astype(float) for field in rows.dtype.names}
        norms[name] = {
            field: {"mean": float(np.nanmean(values)), "std": float(np.nanstd(values)) or 1.0}
            for field, values in columns.items()
        }
    labels, classes = file["events"]["label"][:EVENTS], file["events"].attrs["classes"]

counts = np.bincount(labels[labels >= 0], minlength=len(classes))
weights = {"events": {"label": (counts.mean() / counts).tolist()}}
for path, content in (("norm_dict.yaml", norms), ("class_dict.yaml", weights)):
    with open(path, "w") as output:
        yaml.safe_dump(content, output)
