"""The SQLite index of all runs, made from their journals and from nothing else; which runs and which figure are meant.

Imports run_folder/ and the ground; no torch, so that reading commands start fast.
"""
