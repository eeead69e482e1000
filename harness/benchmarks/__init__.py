"""Measurements that are no evaluation, each with a run directory of its own: the stack's ramp."""
