"""The datasets of a configuration and their files: on this machine, on servers, and in CMS's catalogue (DAS, DBS)."""

PAGE = "datasets.md"
