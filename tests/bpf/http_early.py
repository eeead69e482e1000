"""Requests that arrive before their connection has a socket, in a network namespace of its own.

argv: `defer` (TCP_DEFER_ACCEPT, as Apache httpd has it) or `fast` (TCP Fast Open), how many, and
`answer` or `close`. Each is asked on a connection of its own; prints how many were in a SYN.
`IPv4`, `IPv6` and `both` (IPv4 to sockets of IPv6) are `defer` with two servers, which a client
asks from one port at once, each for its path.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

REQUEST = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# families of a server's and a client's sockets, and the address that is asked
ENDS = {
    "IPv4": (socket.AF_INET, socket.AF_INET, "127.0.0.1"),
    "IPv6": (socket.AF_INET6, socket.AF_INET6, "::1"),
    "both": (socket.AF_INET6, socket.AF_INET, "127.0.0.1"),
}
_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 1
_SYN_DATA = 1 << 5  # TCPI_OPT_SYN_DATA in tcpi_options


def enter() -> None:
    """A namespace with nothing but loopback; what is set there is gone with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def listen(fast: bool, family: int = socket.AF_INET) -> socket.socket:
    server = socket.socket(family)
    server.bind(("127.0.0.1" if family == socket.AF_INET else "::", 0))
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


def ask_two_from_one_port(
    servers: Sequence[socket.socket], family: int, host: str, answers: bool
) -> None:
    """Both requests are there before either is answered, the second one first."""
    with contextlib.ExitStack() as open_sockets:
        clients: list[socket.socket] = []
        for path, server in zip((b"/first", b"/second"), servers, strict=True):
            client = open_sockets.enter_context(socket.socket(family))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(clients[0].getsockname() if clients else (host, 0))
            client.connect((host, server.getsockname()[1]))
            client.sendall(REQUEST.replace(b"/first", path))
            clients.append(client)
        accepted = [open_sockets.enter_context(server.accept()[0]) for server in servers]
        for connection in reversed(accepted):
            connection.recv(65536)
            if answers:
                connection.sendall(RESPONSE)
            connection.close()
        for client in clients:
            while client.recv(65536):
                pass


def main(mode: str, times: int, answers: bool) -> None:
    enter()
    if mode in ENDS:
        own, family, host = ENDS[mode]
        servers = [listen(fast=False, family=own) for _ in range(2)]
        for _ in range(times):
            ask_two_from_one_port(servers, family, host, answers)
        return
    server = listen(mode == "fast")
    threading.Thread(target=serve, args=(server, answers), daemon=True).start()
    ahead = sum(ask(server.getsockname()[1], mode == "fast") for _ in range(times))
    os.write(1, f"{ahead} in a SYN\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "answer")
