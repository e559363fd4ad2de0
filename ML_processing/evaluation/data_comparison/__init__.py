"""Data against simulation, in regions that are named for it; signal regions stay blind."""
