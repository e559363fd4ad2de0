"""Access to the grid: proxies and certificates."""
