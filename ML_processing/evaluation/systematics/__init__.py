"""What the variations of weights do to the expected events, to the separation and to the shape of the discriminant."""
