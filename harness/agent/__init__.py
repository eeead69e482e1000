"""The included collectors' user half: one process a collector, `python -m harness.agent NAME`."""
