"""Requests the URL itself, for a service that comes without a locustfile."""

from urllib.parse import urlsplit

from locust import FastHttpUser, task


class Visitor(FastHttpUser):  # type: ignore[misc]
    """Asks for one page again and again; a redirect is an answer, not a second request."""

    max_redirects = 0

    @task  # type: ignore[untyped-decorator]
    def visit(self) -> None:
        """Get the path that the URL names."""
        path = urlsplit(self.host).path
        self.client.get("" if path else "/", name=path or "/")
