"""The commands of `nanoml`, one module each; a module imports what it needs when it runs."""
