"""Training: the loop and what it moves (model, optimizer, centroids, checkpoints, evaluation).

Gets built objects and knows nothing of run folders or the database: what happens is yielded as events. Imports data/,
recipe/ for its settings, and the ground. Start reading in loop.py.
"""
