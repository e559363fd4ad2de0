"""From histograms to a result: the statistical model, and what is done with it. Needs MLTools.NanoML, no other part."""

PAGE = "fit.md"
