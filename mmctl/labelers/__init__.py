"""Built-in labelers: one family a file; each is found by its mark, nothing is imported here."""
