"""Reads recipes: TOML files and --set options become a checked, complete description of a run.

May import registry/ and the ground; does not import torch.
"""
