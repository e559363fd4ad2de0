"""The events of a training: read, described, split into folds, and put into batches."""
