"""Training mixtures: cells, recipes, names, selection, and the file that a training opens."""
