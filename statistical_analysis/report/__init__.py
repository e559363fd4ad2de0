"""The page of a fit: figures, verdict and tables."""
