"""Finds components by name among mmctl's own, plugins/ and installed packages, and checks their parameters.

A component is imported only when it is used. May import the ground only.
"""
