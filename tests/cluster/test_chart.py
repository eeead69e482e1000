"""The chart with the values that are made for it: helm has no complaint, and pods may little."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.linux import processes
from harness.targets.kubernetes import charts, values, workloads
from harness.targets.kubernetes import helm as product
from harness.targets.kubernetes.kubectl import Cluster
from harness.wire.selector import selection

pytestmark = pytest.mark.cluster

CLAIM, NAMED = "PersistentVolumeClaim", "app.kubernetes.io/name"


@pytest.fixture(scope="module", params=[False, True], ids=["without Grafana", "with Grafana"])
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chart") / "values.json"
    stack = values.stack("kind-shop", grafana=request.param)
    made.write_text(json.dumps(values.values(stack, "localhost/node:1")))
    return made


def components(given: Path) -> dict[str, Any]:
    return dict(json.loads(given.read_text())["components"])


def rendered(helm: str, given: Path, *more: str) -> list[dict[str, Any]]:
    argv = [helm, "template", "harness", str(product.CHART), "--kube-version=1.34.4", *more]
    done = processes.run([*argv, f"--values={given}"])
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(scope="module")
def objects(helm: str, given: Path) -> list[dict[str, Any]]:
    return rendered(helm, given)


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = ("Deployment", "DaemonSet")
    return [each["spec"]["template"] for each in objects if each["kind"] in kinds]


def test_what_it_makes_is_found_in_what_helm_tells(
    helm: str, given: Path, objects: list[dict[str, Any]]
) -> None:
    argv = [helm, "template", "harness", str(product.CHART), "--kube-version=1.34.4"]
    said = processes.run([*argv, f"--values={given}"]).stdout
    found = list(workloads._objects(Cluster("shop", "default"), said))
    made = [each for each in objects if each["kind"] in workloads.KINDS]
    named = [(each["kind"], each["metadata"]["name"]) for each in made]
    assert [(kind, name) for kind, name, _ in found] == named
    replicas = [
        workloads._value("replicas", text) for kind, _, text in found if kind == "Deployment"
    ]
    assert set(replicas) == {"1"}


def test_helm_lints_it(helm: str, given: Path) -> None:
    argv = [helm, "lint", "--strict", str(product.CHART), "--kube-version=1.34.4"]
    processes.run([*argv, f"--values={given}"])


def test_every_object_says_whose_it_is(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "harness", each["metadata"]["name"]
        assert "app.kubernetes.io/managed-by" in labels


def test_only_agents_may_more_than_nothing(objects: list[dict[str, Any]]) -> None:
    for pod in pods(objects):
        name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
        for container in pod["spec"]["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert "privileged" not in context
            assert context["capabilities"]["drop"] == ["ALL"]
            assert ("add" in context["capabilities"]) == (name == "agents")
        if name != "agents":
            assert pod["spec"]["securityContext"]["runAsNonRoot"]


def test_there_is_a_policy_for_every_pod(objects: list[dict[str, Any]]) -> None:
    selected = set()
    for each in objects:
        if each["kind"] == "NetworkPolicy":
            selector = each["spec"]["podSelector"]
            selected.add(selector.get("matchLabels", {}).get("app.kubernetes.io/name"))
            for expression in selector.get("matchExpressions", ()):
                selected |= set(expression["values"])
    assert {
        pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods(objects)
    } <= selected


def test_every_pod_names_the_secret_to_pull_with_and_none_if_there_is_none(
    helm: str, given: Path, objects: list[dict[str, Any]]
) -> None:
    assert not [pod for pod in pods(objects) if "imagePullSecrets" in pod["spec"]]
    found = pods(rendered(helm, given, "--set=pullSecret=key"))
    assert len(found) == len(pods(objects))
    for pod in found:
        assert pod["spec"]["imagePullSecrets"] == [{"name": "key"}], pod["metadata"]["labels"]


def test_only_the_collector_has_a_token_and_may_read_pods_and_nothing_else(
    objects: list[dict[str, Any]],
) -> None:
    mounts = {
        pod["metadata"]["labels"]["app.kubernetes.io/name"]
        for pod in pods(objects)
        if pod["spec"]["automountServiceAccountToken"]
    }
    assert mounts == {"otelcol"}
    (role,) = (each for each in objects if each["kind"] == "ClusterRole")
    (binding,) = (each for each in objects if each["kind"] == "ClusterRoleBinding")
    assert (
        role["metadata"]["name"] == "harness-default-otelcol"
    )  # of this release in this namespace
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "otelcol", "namespace": "default"}
    ]
    (collector,) = (
        each["spec"]["template"]["spec"]
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "otelcol")
    )
    assert collector["serviceAccountName"] == "otelcol"


def test_no_service_is_called_as_the_release(objects: list[dict[str, Any]]) -> None:
    for pod in pods(objects):
        said = pod["metadata"]["annotations"]["resource.opentelemetry.io/service.name"]
        assert said == pod["metadata"]["labels"]["app.kubernetes.io/name"]


def agents(made: list[dict[str, Any]]) -> dict[str, Any]:
    (daemonset,) = (each for each in made if each["kind"] == "DaemonSet")
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_one_process_a_node_hosts_all_collectors(
    helm: str, given: Path, objects: list[dict[str, Any]]
) -> None:
    found = agents(objects)
    assert found["command"] == ["/usr/local/bin/agent", "flows+guard+http"]
    assert "--instance-id={name}@$(NODE)" in found["args"]
    assert found["args"][-2:] == ["--sample", "1"]
    sockets = [f"/run/agent/{name}.sock" for name in ("flows", "guard", "http")]
    probe = found["readinessProbe"]["exec"]["command"]
    assert probe == ["test", "-S", sockets[0], "-a", "-S", sockets[1], "-a", "-S", sockets[2]]
    fewer = agents(rendered(helm, given, "--set=agents.collectors.guard=null"))
    assert fewer["command"][1] == "flows+http"
    assert "/run/agent/guard.sock" not in fewer["readinessProbe"]["exec"]["command"]


def test_agents_tell_containers_apart(
    helm: str, given: Path, objects: list[dict[str, Any]]
) -> None:
    assert "--containers" in agents(objects)["args"]
    without = rendered(helm, given, "--set=agents.containers=false")
    assert "--containers" not in agents(without)["args"]


def test_stacks_are_written_where_that_is_asked_for(helm: str, given: Path) -> None:
    found = agents(rendered(helm, given, '--set-json=agents.collectors.profile=["--pprof=/tmp"]'))
    assert found["command"] == ["/usr/local/bin/agent", "flows+guard+http+profile"]
    assert {"--containers", "--pprof=/tmp"} <= set(found["args"])
    mounts = {each["mountPath"] for each in found["volumeMounts"] if not each.get("readOnly")}
    assert "/tmp" in mounts  # of a root file system that nobody writes to


def test_agents_see_all_pods_unless_some_are_selected(objects: list[dict[str, Any]]) -> None:
    said = " ".join(agents(objects)["args"])
    for option in ("namespaces", "pod-selector", "always-pods", "node-name"):
        assert f"--{option}" not in said


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        ('namespaces=["shop","web"]', "--namespaces=shop,web"),
        ('excludedNamespaces=["kube-system"]', "--excluded-namespaces=kube-system"),
        ('podSelector="app in (a,b),tier!=test"', "--pod-selector=app in (a,b),tier!=test"),
        (
            'podSelector={"matchLabels":{"app":"shop"}}',
            '--pod-selector={"matchLabels":{"app":"shop"}}',
        ),
    ],
)
def test_agents_that_see_selected_pods_may_read_pods_and_nothing_else(
    helm: str, given: Path, value: str, argument: str
) -> None:
    made = rendered(helm, given, f"--set-json=agents.{value}")
    arguments = agents(made)["args"]
    assert argument in arguments
    (always,) = (each for each in arguments if each.startswith("--always-pods="))
    wanted = selection("shop", always=[always.partition("=")[2]])
    assert wanted is not None
    (go,) = (
        each["metadata"]["labels"]
        for each in pods(made)
        if each["metadata"]["labels"][NAMED] == "go"
    )
    assert wanted.takes("default", go)  # what the proof asks
    assert not wanted.takes("default", {**go, NAMED: "flask"})
    assert arguments.count("--node-name=$(NODE)") == 1
    mounts = [
        pod["metadata"]["labels"][NAMED]
        for pod in pods(made)
        if pod["spec"]["automountServiceAccountToken"]
    ]
    assert sorted(mounts) == ["agents", "otelcol"]
    roles = {each["metadata"]["name"]: each for each in made if each["kind"] == "ClusterRole"}
    assert set(roles) == {"harness-default-agents", "harness-default-otelcol"}
    for name, verbs in (("agents", ["list", "watch"]), ("otelcol", ["get", "list", "watch"])):
        assert roles[f"harness-default-{name}"]["rules"] == [
            {"apiGroups": [""], "resources": ["pods"], "verbs": verbs}
        ]
    (binding,) = (
        each
        for each in made
        if (each["kind"], each["metadata"]["name"])
        == ("ClusterRoleBinding", "harness-default-agents")
    )
    assert binding["roleRef"]["name"] == "harness-default-agents"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "agents", "namespace": "default"}
    ]


def test_each_component_has_a_volume_if_so_asked_and_else_none(
    helm: str, given: Path, objects: list[dict[str, Any]]
) -> None:
    assert not [each for each in objects if each["kind"] == CLAIM]
    found = rendered(helm, given, "--set=storage.size=10Gi,storage.class=fast")
    claims = {each["metadata"]["name"]: each for each in found if each["kind"] == CLAIM}
    assert set(claims) == set(components(given)) >= {"otelcol", "prometheus"}
    for name, each in claims.items():
        assert each["spec"]["resources"]["requests"] == {"storage": "10Gi"}
        assert each["spec"]["storageClassName"] == "fast"
        (pod,) = [p for p in pods(found) if p["metadata"]["labels"][NAMED] == name]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes["data"] == {"name": "data", "persistentVolumeClaim": {"claimName": name}}
    default = rendered(helm, given, "--set=storage.size=10Gi")
    assert all("storageClassName" not in each["spec"] for each in default if each["kind"] == CLAIM)


def test_grafanas_files_are_mounted_and_its_password_is_in_a_secret_alone(
    helm: str, given: Path, objects: list[dict[str, Any]]
) -> None:
    secrets = [each for each in objects if each["kind"] == "Secret"]
    if "grafana" not in components(given):
        assert not secrets
        return
    (secret,) = secrets
    ((key, password),) = secret["data"].items()
    assert len(base64.b64decode(password)) == 32
    (again,) = (each for each in rendered(helm, given) if each["kind"] == "Secret")
    assert again["data"] != secret["data"]  # nothing that anybody could know
    for each in objects:
        if each["kind"] != "Secret":
            assert password not in json.dumps(each)
            assert base64.b64decode(password).decode() not in json.dumps(each)
    (pod,) = (each for each in pods(objects) if each["metadata"]["labels"][NAMED] == "grafana")
    (container,) = pod["spec"]["containers"]
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert mounts[f"/harness/{key}"]["readOnly"]
    (config,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "grafana")
    )
    files = components(given)["grafana"]["files"]
    assert len(files) > 5
    for name, text in files.items():
        assert config["data"][mounts[f"/harness/{name}"]["subPath"]] == text
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["GF_SECURITY_ADMIN_PASSWORD"] == f"$__file{{/harness/{key}}}"
    writable = {path for path, each in mounts.items() if each["name"] in ("data", "tmp")}
    assert writable == {components(given)["grafana"]["data"], "/tmp"}
    assert pod["spec"]["securityContext"]["runAsUser"] == 472
    others = [p for p in pods(objects) if p["metadata"]["labels"][NAMED] in ("jaeger", "load")]
    assert {p["spec"]["securityContext"]["runAsUser"] for p in others} == {65534}


def test_grafana_is_heard_by_nobody_and_asks_nobody_outside(
    given: Path, objects: list[dict[str, Any]]
) -> None:
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
    }
    for name in ("jaeger", "prometheus"):  # which Grafana asks
        (rule,) = policies[name]["ingress"]
        assert "grafana" in rule["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    if "grafana" in components(given):
        own = policies["grafana"]
        assert own["policyTypes"] == ["Ingress", "Egress"]
        assert not own.get("ingress")
        (to, dns) = own["egress"]
        (expression,) = to["to"][0]["podSelector"]["matchExpressions"]
        assert set(expression["values"]) == set(components(given))
        assert {port["port"] for port in dns["ports"]} == {53}


@pytest.fixture(scope="module")
def production(helm: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the same chart makes for the production profile, of which it is only the agents."""
    ours = charts.known()[-1]
    image = tmp_path_factory.mktemp("production") / "values.json"
    image.write_text(json.dumps({"image": "localhost/node:1"}))
    argv = [helm, "template", ours.release, *ours.place(), "--kube-version=1.34.4"]
    done = processes.run([*argv, f"--values={ours.file}", f"--values={image}"])
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def test_in_production_it_makes_agents_and_what_the_proof_asks(
    production: list[dict[str, Any]],
) -> None:
    made = {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in pods(production)}
    assert made == {"agents", "go"}
    for pod in pods(production):
        for container in pod["spec"]["containers"]:
            assert container["image"] == "localhost/node:1"
            if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "agents":
                assert "--otlp=http://otel-gateway:4318" in container["args"]


def test_services_and_load_may_have_images_of_their_own(helm: str, given: Path) -> None:
    more = ("--set", "workloads.go.image=a.example/go:1", "--set", "load.image=a.example/load:1")
    found = {
        pod["metadata"]["labels"][NAMED]: pod["spec"]["containers"][0]["image"]
        for pod in pods(rendered(helm, given, *more))
    }
    assert found["go"] == "a.example/go:1"
    assert found["load"] == "a.example/load:1"
    assert found["flask"] == found["agents"] == "localhost/node:1"
