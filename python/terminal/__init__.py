"""What appears on the terminal: progress, tables, and Ctrl-C."""
