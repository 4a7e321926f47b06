"""Built-in labelers, one family per file. The registry finds them by their decorator; nothing is imported here."""
