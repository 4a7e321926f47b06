"""Tools for data sets before training: checks, contact sheets, splits, and a recipe for a folder of images."""
