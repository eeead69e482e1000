"""The run directory and the machine's certificate: written by the controller, read by analysis and report."""
