"""The datasets of a configuration and their files."""
