"""Data side of NanoML: skim, convert, shuffle, score. Needs MLTools.NanoML, no other part."""
