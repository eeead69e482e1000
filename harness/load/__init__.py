"""The load driver: stock Locust users, released by a schedule, every request recorded."""
