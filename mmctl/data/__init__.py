"""From a data set to the batches of a training step: checks, label splits, random draws, loading, normalisation.

Everything random in a step is a pure function of (seed, step). Imports recipe/ for its settings, and the ground.
"""
