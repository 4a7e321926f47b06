"""Images on their way to a network: data sets as arrays, label splits, random draws, batches on the device.

Everything random in a step is a pure function of (seed, step). Imports recipe/ for its settings, and the ground.
"""
