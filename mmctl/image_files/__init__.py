"""Public: image files, found in folders and label files, and decoded once into a memory map. Data sets may use it."""
