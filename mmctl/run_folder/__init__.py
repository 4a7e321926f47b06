"""The files of one run: its record (run.json), its journal of events, its lease. They are the truth about a run.

Uses the standard library alone, so that any command can read a run; imports the ground.
"""
