"""Published tables as data, ours beside them, and their formats.

Reads recipes to find which runs fill a cell; no torch.
"""
