"""Shows what a recipe would do without training it: dry run, explanation of a training step, profile."""
