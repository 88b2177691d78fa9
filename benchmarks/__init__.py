"""What the implementations of rslwm are worth: each paired with one that does the same work in the obvious way.

Runs from a checkout: ``python -m benchmarks.rollout``. What this machine does by itself is ``rslwm bench rollout``.
"""
