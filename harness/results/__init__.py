"""The run directory and the machine's certificate: the controller writes, the report reads."""
