"""A server that answers some requests and not others; prints its port. argv: `deaf`, or none.

/close closes the connection, /half does so in the middle of a response, /large does so when all of
a response is written and most of it waits to be sent, /endless with a body that has no length and
/torn_large in the middle of a chunked one, /held writes as much and waits for the
client, /begun begins a body without a length and does, too, /shut ends one by a FIN, /wait waits
for more from the client and then sends the rest, /until answers up to the end of the connection,
/chunks closes it in the middle of a chunked response, /trailers behind the trailers of one, /torn
behind one whose last bytes leave apart, /upload reads a chunked request to its end before it
answers; any other path is never answered, and the connection is closed when the client's end is.
Behind a path ?impatient has the kernel give up soon where the client takes nothing.
One that is `deaf` accepts no connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading

LARGE = 200_000  # bytes: less than a socket's buffers hold, more than leaves at once
CHUNKED = {
    b"/chunks": [b"5\r\nhello\r\n", b"5\r\nag"],
    b"/trailers": [b"5\r\nhello\r\n", b"0\r\nX-Sum: 1\r\n\r\n"],
    b"/torn": [b"5\r\nhello\r\n", b"0\r\n", b"\r\n"],
}
ENDLESS = {
    b"/endless": b"HTTP/1.0 200 OK\r\n\r\n",
    b"/torn_large": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


def serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError):
        while asked := connection.recv(65536):
            path, _, query = asked.split(b" ")[1].partition(b"?")
            if query == b"impatient":
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
            if path == b"/half":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            elif path in (b"/large", b"/held"):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGE)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
                connection.sendall(head.encode() + bytes(LARGE))
            elif path in ENDLESS:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGE)
                connection.sendall(ENDLESS[path] + bytes(LARGE))
            elif path == b"/until":
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")
            elif path in (b"/begun", b"/shut"):
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nsome")
                if path == b"/shut":
                    connection.shutdown(socket.SHUT_WR)
            elif path in CHUNKED:
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for piece in CHUNKED[path]:
                    connection.sendall(piece)
            elif path == b"/upload":
                while not asked.endswith(b"\r\n0\r\n\r\n"):
                    asked += connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            elif path == b"/wait":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbe")
                connection.recv(1)
                connection.sendall(b"en")
            if path in (b"/close", b"/half", b"/large", b"/until", *ENDLESS, *CHUNKED):
                return


if __name__ == "__main__":
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(json.dumps({"ready": True, "port": server.getsockname()[1]}), flush=True)
    if sys.argv[1:] == ["deaf"]:
        threading.Event().wait()
    while True:
        threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
