"""Turns a run directory into one HTML page, Markdown and JSON; and profiles into flame graphs."""
