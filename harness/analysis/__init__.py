"""Pure functions from a run's measurements to estimates and verdicts; no run is changed here."""
