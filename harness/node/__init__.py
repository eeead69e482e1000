"""The side that touches the measured machine: service, load, collectors, meters at window edges."""
