"""Requests that arrive before their connection has a socket, in a network namespace of its own.

argv: `defer` (TCP_DEFER_ACCEPT, as Apache httpd has it) or `fast` (TCP Fast Open), how many, and
`answer` or `close`. Each is asked on a connection of its own; prints how many were in a SYN.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
import threading
from pathlib import Path

REQUEST = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 1
_SYN_DATA = 1 << 5  # TCPI_OPT_SYN_DATA in tcpi_options


def enter() -> None:
    """A namespace with nothing but loopback; what is set there is gone with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def listen(fast: bool) -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    if fast:
        Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("3")
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    else:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    server.listen(64)
    return server


def serve(server: socket.socket, answers: bool) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            if answers:
                connection.sendall(RESPONSE)


def ask(port: int, fast: bool) -> bool:
    """One request; whether its SYN had it."""
    with socket.socket() as client:
        if fast:
            client.sendto(REQUEST, socket.MSG_FASTOPEN, ("127.0.0.1", port))
        else:
            client.connect(("127.0.0.1", port))
            client.sendall(REQUEST)
        while client.recv(65536):
            pass
        return bool(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[5] & _SYN_DATA)


def main(mode: str, times: int, answers: bool) -> None:
    enter()
    server = listen(mode == "fast")
    threading.Thread(target=serve, args=(server, answers), daemon=True).start()
    ahead = sum(ask(server.getsockname()[1], mode == "fast") for _ in range(times))
    os.write(1, f"{ahead} in a SYN\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "answer")
