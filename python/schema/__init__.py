"""Dataclasses as settings and as files, and the roles of their fields in jobs."""
