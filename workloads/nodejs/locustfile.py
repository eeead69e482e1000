"""Drives the routes of workload.toml by their weights; any Locust runs it."""

import tomllib
from itertools import count
from pathlib import Path

from locust import FastHttpUser

WORKLOAD = tomllib.loads(Path(__file__).with_name("workload.toml").read_text())
NUMBERS = count(1)


def request(route):
    headers = {"Connection": "close"} if route.get("close") else {}

    def task(user):
        path = route["path"].replace("{n}", str(next(NUMBERS) % 1000))
        user.client.get(path, name=route["name"], headers=headers)

    return task


class WorkloadUser(FastHttpUser):
    max_redirects = 0
    tasks = [(request(route), route["weight"]) for route in WORKLOAD["routes"]]  # noqa: RUF012
