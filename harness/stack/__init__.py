"""The observability stack: which components there are, their configuration, start, answers."""
