"""The full-screen view of all runs, `mmctl ui`: a table, details, curves and logs, and keys that act on runs.

Needs Textual (`pip install 'mmctl[tui]'`). Reading goes on in a thread of its own, so that keys are answered at once.
"""
