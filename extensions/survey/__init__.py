"""A tree of files of CMS's object groups: what is in it, what of it NanoML can use, and what changed since another one."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Proposes the corrections of an era from a tree of files of CMS's object groups, checks one, and compares two.",
    kinds={
        "commands": {
            "corrections propose": "command:propose",
            "corrections check": "command:check_tree",
            "corrections compare": "command:compare",
        },
        "era lines": {"kinds of objects": "propose:era_lines"},
        "changes of corrections": {"comparison": "kinds:SEE"},
    },
)

PAGE = "howto/corrections.md"
