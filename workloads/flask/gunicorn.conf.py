"""How gunicorn serves the Flask workload: one process, threads, connections kept alive."""

import json

workers = 1
worker_class = "gthread"
threads = 8
keepalive = 600
graceful_timeout = 2
control_socket_disable = True
loglevel = "warning"


def when_ready(server):
    port = server.LISTENERS[0].sock.getsockname()[1]
    print(json.dumps({"ready": True, "port": port}), flush=True)
