"""Counters of the kernel and of the telemetry, read at the edges of windows."""
