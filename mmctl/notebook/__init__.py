"""The runs of a project in notebooks and scripts: what `mmctl.open` returns."""
