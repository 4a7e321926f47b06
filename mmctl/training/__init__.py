"""Training: the loop and its parts (model, optimizer, centroids, metrics, alarms, evaluation, checkpoints).

It gets built objects and does not know the run folder or the database: the loop yields events, and runs/ stores them.
Imports data/, recipe/ for the settings, and the ground. Start reading in loop.py.
"""
