"""The included collectors' user half: a process hosts one or several, `python -m harness.agent`."""
