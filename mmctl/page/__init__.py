"""Reports as HTML pages that need nothing but themselves: one for some runs, or a site for many.

report.py is where to start reading.
"""
