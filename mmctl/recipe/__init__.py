"""A recipe: TOML files and --set words become a checked, complete description of a run.

No torch. Imports registry/ for the components that a recipe names, and the ground.
"""
