"""Data side of NanoML: skim, convert, shuffle, score. Needs MLTools.NanoML, not ML_processing."""
