"""Reads recipes: TOML files and --set options become a checked, complete description of a run.

May import registry/ and the modules at the bottom of the package; does not import torch.
"""
