"""Access to the grid: proxies and certificates."""

PAGE = "cern.md"
