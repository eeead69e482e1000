"""Why a service does not answer at its URL; asked until it does by who starts or finds it."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

SECONDS = 5.0  # for one request


def reason(url: str) -> str:
    """Why nobody answers there, in a sentence; empty if somebody does, whatever it says."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        connection.getresponse()
    except ssl.SSLCertVerificationError:
        return ""  # somebody is there; whom to trust is the locustfile's business
    except (OSError, http.client.HTTPException) as error:
        return _told(error, is_connected=connection.sock is not None)
    finally:
        connection.close()
    return ""


def _told(error: Exception, is_connected: bool) -> str:
    if isinstance(error, ssl.SSLError):
        return "What listens there speaks no TLS (https)."
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        return "It closed the connection instead of an answer."
    if isinstance(error, http.client.HTTPException):
        return "What it says is no HTTP/1, in which it was asked; HTTP/2 and gRPC are others."
    if isinstance(error, TimeoutError) and is_connected:
        return f"It took the connection, and said nothing for {SECONDS:.0f} s."
    return f"There is no connection: {getattr(error, 'strerror', None) or error}."
