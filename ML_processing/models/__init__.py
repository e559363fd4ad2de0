"""The parts of networks: what they are made of, how they are found by name, scaled and judged."""
