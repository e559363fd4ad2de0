"""The commands of `nanoml`, grouped by subject; a module imports what it needs when it runs."""
