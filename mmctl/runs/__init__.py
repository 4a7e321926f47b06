"""Executes runs: one from its recipe to its last checkpoint, or several in parallel.

Uses recipe/, data/, training/, run_folder/ and store/. Start reading in execute.py.
"""
