"""Many runs: submitted to the queue of this machine or to an engine, watched, stopped and tried again.

Start reading in launch.py.
"""
