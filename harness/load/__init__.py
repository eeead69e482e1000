"""The load driver's process: stock Locust users, released by a schedule, every request recorded."""
