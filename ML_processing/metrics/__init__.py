"""Numbers that say how good a network is, as functions of arrays, right for weights of either sign."""
