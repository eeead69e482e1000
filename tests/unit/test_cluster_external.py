"""Backends of somebody's own by URL: what is said of them, installed, proved and remembered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ComponentError, InputError, NeedError
from harness.node import answers
from harness.targets.kubernetes import (
    acknowledged,
    chosen,
    condition,
    external,
    helm,
    meant,
    pods,
    profiles,
    proof,
    values,
    workloads,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.external import External
from harness.targets.kubernetes.kubectl import Cluster
from harness.wire.control import Server
from tests.unit.answered import Answers
from tests.unit.dockered import OWN, Machine, on_path

CLUSTER = Cluster("shop", "harness")
OTLP = "http://otelcol.telemetry:4318"
JAEGER = "jaeger=http://127.0.0.1:16686"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"otlp": "otelcol:4318"}, "'otelcol:4318' is no URL"),
        ({"otlp": "http://"}, "is no URL"),
        ({"otlp": "http://otelcol:port"}, "is no URL"),
        ({"otlp": "http://localhost:4318"}, "leads nowhere from a pod"),
        ({"otlp": "http://127.0.0.2:4318"}, "leads nowhere from a pod"),
        ({"otlp": "http://[::1]:4318"}, "leads nowhere from a pod"),
        ({"otlp": "http://me:s3cret@otelcol:4318"}, "has a login in it"),
        ({"otlp": "https://otelcol/?key=s3cret"}, "goes on with a query"),
        ({"otlp": "https://otelcol/#s3cret"}, "goes on with a query"),
        ({"otlp": OTLP, "query_traces": f"{JAEGER}?token=s3cret"}, "goes on with a query"),
        ({"query_traces": JAEGER}, "--query-traces says nothing without --otlp"),
        ({"otlp_secret": "key"}, "--otlp-secret says nothing without --otlp"),
        ({"otlp": OTLP, "query_traces": "http://x"}, "does not say what keeps the traces"),
        ({"otlp": OTLP, "query_traces": "loki=http://x"}, "kinds are: tempo, jaeger"),
        ({"otlp": OTLP, "query_logs": "loki=x"}, "'x' is no URL"),
        ({"otlp": OTLP, "query_metrics": "prometheus=http://a:s3cret@x"}, "has a login in it"),
        ({"otlp": OTLP, "storage": "1Gi"}, "--storage does not go with --otlp"),
        ({"otlp": OTLP, "dashboards": "grafana"}, "--dashboards does not go with --otlp"),
        ({"otlp": OTLP, "retention_hours": 48}, "--retention does not go with --otlp"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything(options: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        chosen.check(Options("existing", **options))
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_it_goes_with_each_target_and_with_one_profile() -> None:
    for target in ("kind", "existing", "vm"):
        chosen.check(Options(target, otlp=OTLP, query_traces=JAEGER))
    chosen.check(Options("existing", otlp=OTLP, otlp_secret="key"))
    with pytest.raises(InputError, match="--otlp does not go with --profile production"):
        profiles.of(Options("existing", profile="production", otlp=OTLP))
    done = CliRunner().invoke(app, ["up", "--plan", "--otlp", OTLP])
    assert done.exit_code == 2
    assert "--otlp does not go with --target local" in " ".join(done.stderr.split())


def test_a_secret_of_a_cluster_that_would_be_deleted_for_want_of_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asked = Options("kind", otlp=OTLP, otlp_secret="key")
    with pytest.raises(InputError, match="of a cluster that is not there yet"):
        chosen.check(asked)
    chosen.check(replace(asked, keep=True))
    chosen.home(asked.name).mkdir(parents=True)
    chosen.check(asked)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return on_path(tmp_path, monkeypatch)


def test_nothing_is_installed_that_keeps_data(machine: Machine) -> None:
    asked = Options("kind", otlp=OTLP, otlp_secret="key", query_traces=JAEGER)
    described, given = meant.described(asked, "kind-shop", OWN, {}, external.DASHBOARDS)
    assert given["components"] == {}
    assert given["agents"] == {"otlp": OTLP, "otlpSecret": "key"}
    _, later = meant.described(asked, "kind-shop", OWN, {}, external.DASHBOARDS, "7")
    assert later["agents"] == {**given["agents"], "otlpSecretVersion": "7"}
    assert helm.fingerprint(later) != helm.fingerprint(given)  # so that pods are made anew
    assert values.images(given) == [OWN]
    assert (described.hosts, described.keeps) == ({}, {"traces": "jaeger"})
    assert described.url("jaeger") == "http://127.0.0.1:16686"
    assert external.of({"external": given["external"]}) == asked.external
    assert not external.of(None)
    assert not external.of({"external": {}})


def test_the_plan_says_where_agents_would_send_and_who_would_be_asked(machine: Machine) -> None:
    argv = ["up", "--target", "existing", "--plan", "--otlp", OTLP, "--query-traces", JAEGER]
    told = json.loads(CliRunner().invoke(app, [*argv, "--json"]).stdout)
    assert told["external"] == {"otlp": OTLP, "traces": JAEGER}
    assert list(told["images"]) == [OWN]
    assert told["dashboards"].startswith("Dashboards: none.")
    said = CliRunner().invoke(app, argv).stdout
    assert f"Agents would send to {OTLP}. The proof asks {JAEGER} for traces, too." in said
    assert f"harness up --target existing --otlp {OTLP} --query-traces {JAEGER}" in said
    alone = CliRunner().invoke(app, argv[:-2]).stdout
    assert "The proof asks the agents alone." in alone


def test_volumes_of_a_stack_that_is_there_are_not_taken_away_in_passing() -> None:
    kept = {"storage": {"size": "10Gi", "class": ""}}
    with pytest.raises(NeedError, match="which would be deleted"):
        external.require_no_data(External(OTLP), kept)
    external.require_no_data(External(), kept)
    external.require_no_data(External(OTLP), {"storage": {}})
    external.require_no_data(External(OTLP), None)


@pytest.mark.parametrize("keys", [["headers"], ["ca.crt", "other"], ["ca.crt", "headers"]])
def test_a_secret_has_what_is_sent_or_who_is_trusted(
    keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"metadata": {"resourceVersion": "7"}, "data": dict.fromkeys(keys, "eA==")}
    monkeypatch.setattr(Cluster, "get", lambda *_: [secret])
    assert external.require_secret(CLUSTER, External(OTLP, "key")) == "7"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "There is no such Secret."),
        ([{"data": {"token": "eA=="}}], "It has: token."),
        ([{}], "It has: nothing."),
    ],
)
def test_a_secret_that_says_neither_is_told_before_anything(
    found: list[Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "get", lambda *_: found)
    with pytest.raises(NeedError, match=r"has neither headers nor ca\.crt") as caught:
        external.require_secret(CLUSTER, External(OTLP, "key"))
    assert caught.value.why == said
    assert "create secret generic key" in caught.value.next_step
    assert ("create namespace harness; " in caught.value.next_step) == (not found)
    assert external.require_secret(CLUSTER, External(OTLP)) == ""  # none was named


def test_status_asks_whom_up_was_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    release = {"status": "deployed", "components": [], "asked": []}
    kept = external.kept(External(OTLP, traces=JAEGER))
    told = {"ready": True}
    monkeypatch.setattr(condition, "told", lambda *asked, **_: seen.append(asked[4]) or told)
    monkeypatch.setattr(chosen, "found", lambda _: CLUSTER)
    monkeypatch.setattr(workloads, "amiss", lambda _: [])
    monkeypatch.setattr(pods, "ours", lambda _: [])
    monkeypatch.setattr(helm, "state", lambda _: {**release, "external": kept})
    assert condition.status(Options("existing"))["dashboards"] == "none"
    (stack,) = seen
    assert (stack.hosts, stack.url("jaeger")) == ({}, "http://127.0.0.1:16686")


GO = {
    "metadata": {"name": "go-7", "uid": "u-7"},
    "spec": {"nodeName": "worker"},
    "status": {"containerStatuses": [{"containerID": "containerd://c0ffee"}]},
}
AGENT = {"metadata": {"name": "agents-1"}, "spec": {"nodeName": "worker"}}
OTHER = {"metadata": {"name": "agents-2"}, "spec": {"nodeName": "other"}}
KUBECTL = """
echo "$*" >> {log}
case "$*" in
*name=agents*) echo '{{"items": {agents}}}';;
*name=go*) echo '{{"items": [{go}]}}';;
*flushed*) said={said}; echo "${{said%%N*}}$(grep -c flushed {log})${{said#*N}}";;
*"exec daemonset/agents"*) echo 200;;
*) echo "refused: $*" >&2; exit 1;;
esac
"""
TAKEN = '{"answer": {"http": {"spans": N, "dropped": {}}, "flows": {"spans": 0, "dropped": {}}}}'
STILL = '{"answer": {"http": {"spans": 3, "dropped": {"spans": {"rejected": 5}}, "asked": N}}}'
REFUSED = '{"answer": {"http": {"error": "http: The spans did not reach it, 401. N"}}}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in (
        (acknowledged, ("_PATIENCE_SECONDS", "_POLL_SECONDS", "_SECONDS")),
        (proof, ("_POLL_SECONDS",)),
    ):
        for name in names:
            value = 20.0 if name == "_SECONDS" else 0.01
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(proof, "SECONDS", 2.0)


@pytest.fixture
def backends() -> Iterator[Answers]:
    """Jaeger and Prometheus in one: they have whatever they are asked for."""
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.say["/api/services"] = lambda: {"data": ["worker"]}
        server.say["/api/traces"] = lambda: found(json.loads(server.asked[-1]["tags"]))
        yield server
        server.shutdown()
        thread.join()


def found(tags: dict[str, str], uid: str = "u-7") -> dict[str, Any]:
    """A trace with a span that has these attributes, as Jaeger tells it."""
    span = {"processID": "p1", "tags": [{"key": k, "value": v} for k, v in tags.items()]}
    process = {"serviceName": "x", "tags": [{"key": "k8s.pod.uid", "value": uid}]}
    return {"data": [{"spans": [span], "processes": {"p1": process}}]}


def cluster(machine: Machine, log: Path, said: str) -> None:
    words = {"agents": json.dumps([AGENT, OTHER]), "go": json.dumps(GO)}
    machine.put("kubectl", KUBECTL.format(log=log, said=f"'{said}'", **words))


def asking(backends: Answers) -> External:
    url = f"http://127.0.0.1:{backends.server_port}"
    return External(OTLP, traces=f"jaeger={url}/", metrics=f"prometheus={url}")


def test_a_request_is_found_where_it_may_be_looked_for(
    machine: Machine, tmp_path: Path, backends: Answers
) -> None:
    """By the pod's uid, since nobody else need know its name; nothing is forwarded."""
    log, counted = tmp_path / "log", iter([1, 1, 2])

    def samples() -> dict[str, Any]:
        """Of a Prometheus that makes no labels of what is said of the resource."""
        query = backends.asked[-1]["query"]
        if "service_instance_id" in query:
            return {"data": {"result": []}}
        assert 'instance="c0ffee"' in query
        labels = {"http_route": "/exec"}
        rows = [{"metric": labels, "values": [[1.0, str(next(counted, 2))]]}]
        return {"data": {"result": rows}}

    backends.say["/api/v1/query"] = samples
    cluster(machine, log, TAKEN)
    proved = proof.prove(CLUSTER, external.stack(asking(backends)))
    assert [(each.signal, each.backend) for each in proved.arrivals] == [
        ("traces", "jaeger"), ("metrics", "prometheus"),
    ]  # fmt: skip
    assert proved.acknowledged == 1
    assert proved.origin["k8s.pod.uid"] == "u-7"
    lines = log.read_text()
    assert "port-forward" not in lines
    assert "agents-2" not in lines  # nothing of the request is on its node


def test_where_nobody_may_be_asked_the_agents_say_whether_it_was_taken(
    machine: Machine, tmp_path: Path
) -> None:
    cluster(machine, tmp_path / "log", TAKEN)
    proved = proof.prove(CLUSTER, external.stack(External(OTLP)))
    assert (proved.arrivals, proved.acknowledged) == ([], 1)


def test_a_receiver_that_takes_nothing_is_told_by_the_agents_words(
    machine: Machine, tmp_path: Path
) -> None:
    cluster(machine, tmp_path / "log", REFUSED)
    with pytest.raises(ComponentError, match="The agents of worker cannot send") as caught:
        proof.prove(CLUSTER, external.stack(External(OTLP)))
    assert "http: The spans did not reach it, 401." in caught.value.why
    assert "--otlp-secret" in caught.value.next_step
    assert "exec daemonset/agents" not in (tmp_path / "log").read_text()  # no request was made


def test_a_receiver_that_throws_spans_away_is_told(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledged, "_SECONDS", 1.0)
    cluster(machine, tmp_path / "log", STILL)
    with pytest.raises(ComponentError, match="took no span of it") as caught:
        proof.prove(CLUSTER, external.stack(External(OTLP)))
    assert caught.value.why == "Agents say of what was dropped: {'spans rejected': 5}."


def test_a_backend_without_the_request_is_named_by_its_url(
    machine: Machine, tmp_path: Path, backends: Answers
) -> None:
    backends.say["/api/traces"] = lambda: {"data": []}
    cluster(machine, tmp_path / "log", TAKEN)
    own = External(OTLP, traces=asking(backends).traces)
    with pytest.raises(ComponentError, match="of its traces nothing") as caught:
        proof.prove(CLUSTER, external.stack(own))
    assert f"http://127.0.0.1:{backends.server_port} found nothing" in caught.value.why


def test_a_span_of_another_pod_is_no_proof(
    machine: Machine, tmp_path: Path, backends: Answers
) -> None:
    backends.say["/api/traces"] = lambda: found(json.loads(backends.asked[-1]["tags"]), "u-9")
    cluster(machine, tmp_path / "log", TAKEN)
    own = External(OTLP, traces=asking(backends).traces)
    with pytest.raises(ComponentError, match=r"u-9, which is no pod's") as caught:
        proof.prove(CLUSTER, external.stack(own))
    assert "your receiver" in caught.value.next_step


def test_agents_of_a_container_flush_and_say_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> dict[str, Any]:
        raise OSError("The metrics did not reach it.")

    monkeypatch.setattr(answers, "AGENTS", tmp_path)
    servers = [
        Server(tmp_path / "flows.sock", {"flush": fails}),
        Server(tmp_path / "http.sock", {"flush": lambda _: {"spans": 7, "dropped": {}}}),
    ]
    threads = [threading.Thread(target=each.serve) for each in servers]
    for thread in threads:
        thread.start()
    told = answers.flushed()
    for server, thread in zip(servers, threads, strict=True):
        server.stop()
        thread.join()
    assert told["http"] == {"spans": 7, "dropped": {}}
    assert told["flows"] == {"error": "flows: OSError: The metrics did not reach it."}
    assert list(told) == ["flows", "http"]
