"""The observability stack: which components there are, their configuration, their start, questions to them."""
