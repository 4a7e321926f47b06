"""Built-in losses: one family a file; each is found by its mark, nothing is imported here."""
