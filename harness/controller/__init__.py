"""Runs an evaluation from outside: asks a node for trials, stores them, decides what is next."""
