"""The load driver's process: stock Locust users, released by a schedule, every request recorded."""

LOGIN = "HARNESS_LOAD_LOGIN"
"""Variable that has user:password for the service: everybody on a machine can read arguments."""
