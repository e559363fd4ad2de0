"""The terminal: progress, tables, and Ctrl-C."""
