"""A namespace whose agents send to the stack of another one, as to somebody else's backends.

For `test_kind`: it runs where the cluster is reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.linux.processes import Completed
from tests.cluster.reached import HARNESS

SCRIPT = """
import json, sys
from pathlib import Path
from harness.linux import processes
from harness.targets.kubernetes.kubectl import Cluster
there = {kubeconfig!r}
words = ["--target", "existing", "--kubeconfig", there, "--namespace", "guest"]
otlp = ["--otlp", "http://otelcol.harness:4318"]
kinds = {{"traces": "jaeger", "metrics": "prometheus", "logs": "victorialogs"}}
pages = {{"jaeger": 16686, "prometheus": 9090, "victorialogs": 9428}}

def harness(command, *more):
    done = processes.run([{harness!r}, command, *words, *more], check=False, timeout=600)
    print(done.stdout, done.stderr, file=sys.stderr)
    return done

def told(command, *more):
    done = harness(command, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)

found = {{}}
stack = Cluster({context!r}, "harness", Path(there))
known = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
agents = ("exec", "daemonset/agents", "--container=agent", "--", "python3", "-c", known)
found["authorities"] = int(stack.run(*agents).stdout)  # whom agents trust, of a receiver by https
with stack.forwarded(pages) as ports:
    asked = [f"--query-{{signal}}={{kind}}=http://127.0.0.1:{{ports[kind]}}"
             for signal, kind in kinds.items()]
    found["first"] = told("up", *otlp, *asked, "--json")
    found["again"] = told("up", *otlp, *asked, "--json")
    found["status"] = told("status", "-o", "json")
found["alone"] = told("up", *otlp, "--json")
found["wrong"] = harness("up", "--otlp", "http://otelcol.harness:4319").stderr
found["down"] = harness("down", "--verify").stdout
print(json.dumps(found))
"""

# a Collector of ours hears its own namespace; somebody else's hears whom they let it
HEARD = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "guests", "namespace": "harness"},
    "spec": {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "otelcol"}},
        "ingress": [{"from": [{"namespaceSelector": {}}]}],
    },
}


def story(run: Callable[..., Completed], kubeconfig: str, context: str, folder: Path) -> Any:
    """What `up`, `status` and `down` of such a namespace said, by what they were told."""
    policy = folder / "policy.json"
    policy.write_text(json.dumps(HEARD))
    kubectl = ("kubectl", f"--kubeconfig={kubeconfig}")
    run(*kubectl, "apply", f"--filename={policy}")
    try:
        script = SCRIPT.format(kubeconfig=kubeconfig, context=context, harness=HARNESS)
        done = run(sys.executable, "-c", script, check=False)
    finally:
        run(*kubectl, "delete", f"--filename={policy}")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
