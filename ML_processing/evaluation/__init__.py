"""How good a training is: numbers, plots and a report, all on events that the networks have not seen."""
