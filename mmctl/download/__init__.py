"""Downloads published data sets: with resume and a known hash, and unpacks them without trusting the archive."""
