"""ROOT files: reading them quickly, from this machine or another, and writing NanoAOD."""
