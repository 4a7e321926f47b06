"""What a recipe would do, found out without training it: dry run, explanation of a step, profile."""
