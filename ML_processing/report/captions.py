"""What is said of each figure: its title, how to read it, and what would be worrying."""

from __future__ import annotations

__all__ = ["CAPTIONS"]

CAPTIONS = {
    "roc": (
        "ROC curve",
        "Each point is a cut on the signal probability: how much signal passes it, and how much background still does. "
        "Lower is better. The band is the central 68 % of repetitions with resampled events.",
        "The network's curve well above the dashed one of the trees, or a straight line to the corner, which is "
        "guessing (on this logarithmic axis guessing bends steeply down at the left).",
    ),
    "scores": (
        "Signal probability by class",
        "Lines are the events that the networks were trained on, points with statistical errors those they have not "
        "seen. Signal should pile up at the right, background at the left. KS is the probability of a "
        "Kolmogorov-Smirnov test that both are of one distribution: of the least probable of the networks, times their "
        "number.",
        "Points that leave the line of their colour by several errors in many bins, and KS below 0.01, which is "
        "overtraining; or all classes having the same shape.",
    ),
    "confusion": (
        "Confusion matrix",
        "Each row is a true class, and says to which class its events are given by the highest probability; every row "
        "sums to 100 %. The diagonal should be dark.",
        "A row without a dark cell, or a column that takes everything.",
    ),
    "calibration": (
        "Calibration",
        "Of the events to which the network gives a probability, how many are of that class, all classes having the "
        "same total weight as in the training. Points should follow the dashed line within their errors. ECE is the "
        "mean distance from it, beside what a perfect network would have by chance.",
        "Points above the line at the left and below it at the right: the network is too sure of itself, which is "
        "overtraining. Cuts on the score remain right.",
    ),
    "significance": (
        "Expected significance against the cut",
        "Asimov significance of a discovery by counting the events that pass the cut (arXiv:1007.1727), with its "
        "statistical error; dashed, with the statistical error of the background as an uncertainty. The dotted line is "
        "the best cut by the dashed curve with at least 5 effective background events behind it. Systematic "
        "uncertainties are not in it.",
        "A best cut at the very end of the curve or on a spike: there few background events decide. Take a looser cut, "
        "or more simulation.",
    ),
    "efficiency": (
        "Efficiency of the cut against the features",
        "How much of each class passes the best cut (or else one that keeps 10 % of the background), in bins with "
        "about the same number of events each; the outermost bins are drawn shortened.",
        "Signal that passes only in a corner of a feature (the network would miss other signals), or background that "
        "passes only in one (there it would look like a signal).",
    ),
    "sculpting": (
        "Mass sculpting",
        "Shape of masses for each background: all events (grey) and those that pass cuts on the score. JSD is the "
        "Jensen-Shannon divergence between events that pass and those that fail, in bits, in the order of the cuts: 0 "
        "for the same shape, 1 for no overlap.",
        "A background that peaks where the signal would be. That is natural for a network that knows the mass; it "
        "matters where the background is estimated from the mass's sidebands.",
    ),
    "importance": (
        "Importance of the inputs",
        "Left: how much is lost when the values of an input are shuffled among the events (L. Breiman, 2001), or for "
        "“(all)” when the whole collection is; the error contains repetitions and statistics. Right: mean size of the "
        "input's contribution to the logarithm of the odds of signal, by integrated gradients (arXiv:1703.01365). "
        "Inputs that say the same share their importance.",
        "One input that alone carries nearly everything: is it well modelled, and does it know the truth? Inputs at zero "
        "on both sides can be left out.",
    ),
    "features": (
        "Inputs by class",
        "Shape of each input, every class normalised to one; the first and last bin hold all beyond. Objects of a "
        "collection count each.",
        "Spikes at one value, values in absurd places, many missing: something is wrong in the selection.",
    ),
    "correlations": (
        "Correlations by class",
        "Linear correlation coefficients of the features with each other and, in the last row, with the output of the "
        "network: 1 or -1 is a straight line, 0 none.",
        "Two features with 1 or -1: one of them can be left out. A mass with a large correlation with the score in a "
        "background will be sculpted.",
    ),
    "drift": (
        "Events of the training against the compared files",
        "Shapes of the features that differ most; PSI is the population stability index: below 0.1 is no shift, above "
        "0.25 a large one by custom.",
        "A shifted feature that is important to the network: the score of those events means something else.",
    ),
    "predictions": (
        "Predicted against true values",
        "Each cell is the weight of the events there. They should lie along the dashed line.",
        "A flat band: the network gives the mean whatever the truth is.",
    ),
    "residuals": (
        "Residuals",
        "Left: predicted minus true value on events of the training and on others, beside the trees. Right: bias and "
        "resolution (half the interval of the central 68 %) in bins of the truth.",
        "Training far narrower than test, which is overtraining; a bias that is not near 0. At the ends of the range it "
        "always bends towards the mean.",
    ),
    "loss": (
        "Loss",
        "Smaller is better; solid lines are events that only decide when to stop, dashed ones those of the training, "
        "and a dot marks the epoch whose weights were kept. Both should fall and flatten.",
        "Solid lines that rise far above the dashed ones before the dot, lines that still fall at the end (more epochs "
        "would help), or one fold far from the others.",
    ),
}
"""By the name of the figure, in the order of the report: title, how to read it, what is worrying."""
