"""Pure functions from a run directory's measurements to estimates; nothing here changes a run."""
