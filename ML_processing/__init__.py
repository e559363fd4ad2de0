"""Training, evaluation and export of networks, from the HDF5 files of the conversion.

It runs outside CMSSW, with Python 3.10 or newer and the newest packages, and builds on ``MLTools.NanoML`` alone.
"""

PAGE = "howto/train.md"
