"""A name becomes a component: one index over the package, plugins/ and installed distributions; parameters checked.

Nothing is imported before it is named. Imports the ground alone.
"""
