"""NanoAOD: names and versions, luminosity masks, folds, sums of weights, cuts in the language of TTree::Draw."""
