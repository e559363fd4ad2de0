"""RNTuples: their fields under NanoAOD's names, their pages, and skims as RNTuples."""
