"""The loss `gce` for mmctl: generalised cross-entropy."""
