"""The look of all figures and pages. Only what draws needs matplotlib, mplhep and scipy."""
