"""What reading commands say: summaries and comparisons as plain values, then laid out for people.

No torch. `print_*` modules write to a terminal (rich); the others return values, which --json prints.
"""
