"""The SQLite index of all runs, made from their journals and from nothing else.

Also finds the runs and the metrics that a command names.

Imports run_folder/ and the ground; no torch, so that reading commands start fast.
"""
