"""The side that touches the measured machine: service, load, collectors, and meters at the edges of windows."""
