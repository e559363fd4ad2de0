"""CRAB as a batch system; data_processing/crab writes what its jobs do."""
