"""Runs an evaluation or a calibration from outside: asks the node for trials, stores them, decides what is next."""
