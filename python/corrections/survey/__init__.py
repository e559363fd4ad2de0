"""A tree of files of CMS's object groups: what is in it, what of it NanoML can use, and what changed since another one."""
