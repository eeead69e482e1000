"""The places where things run; `cli` and `evaluate` choose one by name."""
