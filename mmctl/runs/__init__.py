"""One run from its recipe to its last checkpoint, and many runs beside each other.

Joins recipe/, data/, training/, run_folder/ and store/. Start reading in execute.py.
"""
