"""mmctl: a terminal-first experiment manager for semi-supervised image classification."""

__version__ = "0.1.0"
