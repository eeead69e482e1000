"""The smallest HTTP service: one thread, one loop, no timers, no collections; for calibration.

What a program on its path costs, it pays, and nothing else changes. A runtime that works beside
the requests (a scheduler's watchdog, a collector of garbage) does less of that while a request
takes longer, and so hides a part of what was added.
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys

END = b"\r\n\r\n"
ANSWERS = {b"/": (b"200 OK", b"hello\n"), b"/healthz": (b"200 OK", b"ok\n")}
NOTHING = (b"404 Not Found", b"nothing here\n")
HOST = os.environ.get("WORKLOAD_HOST", "127.0.0.1")
LONGEST = 65_536  # bytes of a request's head


def answer(head: bytes) -> bytes:
    target = head.split(b" ", 2)[1:2] or [b""]
    status, body = ANSWERS.get(target[0].partition(b"?")[0], NOTHING)
    return b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
        status, len(body), body,
    )  # fmt: skip


class Connection:
    """What a client has sent and was not answered yet; requests with a body are refused."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.waiting = sock, b""

    def serve(self) -> bool:
        """Answer what is whole; whether the connection goes on."""
        try:
            data = self.sock.recv(LONGEST)
            self.waiting += data
            *heads, self.waiting = self.waiting.split(END)
            for head in heads:
                if not head.startswith((b"GET ", b"HEAD ")):
                    self.sock.send(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                    return False
                self.sock.send(answer(head))
        except OSError:
            return False
        return bool(data) and len(self.waiting) < LONGEST


def main(port: int) -> None:
    listener = socket.create_server((HOST, port), backlog=512)
    listener.setblocking(False)
    loop = selectors.DefaultSelector()
    loop.register(listener, selectors.EVENT_READ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(json.dumps({"ready": True, "port": listener.getsockname()[1]}), flush=True)
    gc.disable()  # nothing here makes cycles
    while True:
        for key, _ in loop.select():
            if key.data is None:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                loop.register(sock, selectors.EVENT_READ, Connection(sock))
            elif not key.data.serve():
                loop.unregister(key.fileobj)
                key.data.sock.close()
        # all is answered: the place for a cost that nobody waits for (see bpf/inject.bpf.c)
        listener.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)


if __name__ == "__main__":
    main(int(sys.argv[1]))
