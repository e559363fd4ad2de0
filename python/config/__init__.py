"""The configuration of an analysis: its YAML file, as typed settings, and all that can be wrong with it."""
