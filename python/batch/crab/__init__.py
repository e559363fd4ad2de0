"""CRAB, by its client: a task for each dataset, with many jobs each, whose outputs stay on the storage of a site."""
