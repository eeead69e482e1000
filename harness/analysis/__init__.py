"""Pure functions from a run's measurements to estimates and verdicts; nothing here changes a run."""
