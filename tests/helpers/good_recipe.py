"""The text of a small recipe on the digits, to be spoilt by tests of wrong inputs."""

GOOD = """
[dataset]
name = "digits"
[split]
labels = 20
[backbone]
name = "small"
[augment.weak]
name = "affine"
[method]
name = "supervised"
[train]
steps = 2
threads = 1
"""
