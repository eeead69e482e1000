"""The included collectors' user half; `python -m harness.agent NAME`, started by `collectors`."""
