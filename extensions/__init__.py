"""Features that are folders: see `MLTools.NanoML.extending`."""
