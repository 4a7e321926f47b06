"""Built-in launchers, one family per file. Each is found by its mark; this file imports nothing."""
