"""Histograms of all events: by region, class and variation, for plots and fits."""
