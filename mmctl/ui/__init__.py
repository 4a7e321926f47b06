"""The full-screen view of all runs, `mmctl ui`: a table, details, curves and logs, and keys that act on runs.

    app.py        the screen and its keys (start here)
    reading.py    what it shows, read from the store in a thread of its own

Needs Textual (`pip install 'mmctl[tui]'`); only table.py, panes.py, dialogs.py and app.py import it.
"""
