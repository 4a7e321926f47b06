"""Runs in and out: tables and whole runs as files, and runs of other folders and other programs.

Nothing of another program is imported to read its files: their formats are decoded here, by the standard library alone.
Files may come from anywhere: whatever they hold ends in a run, or in a message that names the file.
"""
