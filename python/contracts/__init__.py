"""The content of files by which the parts of NanoML exchange something."""
