"""Whether the result would be another one for another era, another seed, or another number of events."""
