"""Data side of NanoML: skim, convert, score. Needs MLTools.NanoML, not ML_processing."""
