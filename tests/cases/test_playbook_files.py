"""What the playbooks write on hosts: variables in, files out. Ansible's own filters stand below."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from harness.linux import processes

ROLES = Path(__file__).resolve().parents[2] / "playbooks" / "roles"
HOST: dict[str, Any] = {
    "ansible_facts": {"nodename": "Alpha"},
    "cluster_endpoint": "192.0.2.11:6443",
    "cluster_endpoint_name": "cluster-endpoint",
    "cluster_flannel_image": "registry.example/flannel:1",
    "cluster_flannel_plugin_image": "registry.example/plugin:1",
    "cluster_helper_image": "registry.example/busybox:1",
    "cluster_ignore_preflight": [],
    "cluster_is_container": False,
    "cluster_node_address": "192.0.2.11",
    "cluster_pause_image": "registry.example/pause:1",
    "cluster_pod_subnet": "10.1.0.0/16",
    "cluster_provisioner_image": "registry.example/provisioner:1",
    "cluster_registry": "registry.example",
    "cluster_service_subnet": "10.2.0.0/16",
    "cluster_state": "/var/lib/harness-cluster",
    "control_plane_version": {"stdout": "v1.34.4"},
    "groups": {"control_plane": ["alpha"], "worker": ["beta"]},
    "host_sysctls": {"net.ipv4.ip_forward": 1},
    "join_control_plane": False,
    "join_keys": {"stdout_lines": ["Using certificate key:", "0123abcd"]},
    "join_token": {
        "stdout": "kubeadm join 192.0.2.11:6443 --token abcdef.0123456789abcdef "
        "--discovery-token-ca-cert-hash sha256:5ec0"
    },
}


def rendered(name: str, **more: Any) -> str:
    """A template of a role as Ansible writes it; what is not defined is an error."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters["to_json"] = json.dumps
    environment.filters["regex_search"] = lambda text, pattern, _: [
        re.search(pattern, text)[1]  # type: ignore[index]
    ]
    return environment.from_string((ROLES / name).read_text()).render({**HOST, **more})


def documents(name: str, **more: Any) -> dict[str, Any]:
    """Its documents by their kinds."""
    found = [each for each in yaml.safe_load_all(rendered(name, **more)) if each]
    return {each["kind"]: each for each in found}


INIT = "control_plane/templates/kubeadm.yaml.j2"
JOIN = "join/templates/join.yaml.j2"


def test_a_control_plane_is_begun_with_what_was_asked() -> None:
    found = documents(INIT)
    cluster = found["ClusterConfiguration"]
    assert cluster["kubernetesVersion"] == "v1.34.4"
    assert cluster["controlPlaneEndpoint"] == "192.0.2.11:6443"
    assert cluster["networking"] == {"podSubnet": "10.1.0.0/16", "serviceSubnet": "10.2.0.0/16"}
    registration = found["InitConfiguration"]["nodeRegistration"]
    assert registration["name"] == "alpha"  # names of nodes have no capitals
    assert "taints" not in registration
    assert found["InitConfiguration"]["bootstrapTokens"] == [{"ttl": "1m0s"}]
    assert found["KubeletConfiguration"]["failSwapOn"] is False
    assert "conntrack" not in found["KubeProxyConfiguration"]


def test_pods_run_on_a_control_plane_that_is_alone() -> None:
    found = documents(INIT, groups={"control_plane": ["alpha"]})
    assert found["InitConfiguration"]["nodeRegistration"]["taints"] == []


def test_a_machine_that_is_a_container_does_less() -> None:
    found = documents(INIT, cluster_is_container=True)
    assert found["KubeProxyConfiguration"]["conntrack"] == {"maxPerCore": 0}
    assert found["KubeletConfiguration"]["enforceNodeAllocatable"] == []
    registration = found["InitConfiguration"]["nodeRegistration"]
    assert registration["ignorePreflightErrors"] == ["SystemVerification"]
    toml = "host/templates/containerd.toml.j2"
    assert "restrict_oom_score_adj = true" in rendered(toml, cluster_is_container=True)
    assert "restrict_oom_score_adj" not in rendered(toml)


def test_images_that_were_brought_are_never_removed_to_make_room() -> None:
    found = documents(INIT, cluster_source="files")["KubeletConfiguration"]
    assert found["imageGCHighThresholdPercent"] == 100
    assert "imageGCHighThresholdPercent" not in documents(INIT)["KubeletConfiguration"]


def test_a_worker_joins_with_the_token_and_the_certificate_of_the_cluster() -> None:
    found = documents(JOIN)["JoinConfiguration"]
    assert found["discovery"]["bootstrapToken"] == {
        "apiServerEndpoint": "192.0.2.11:6443",
        "token": "abcdef.0123456789abcdef",
        "caCertHashes": ["sha256:5ec0"],
    }
    assert "controlPlane" not in found


def test_a_control_plane_joins_with_the_keys_as_well() -> None:
    found = documents(JOIN, join_control_plane=True)["JoinConfiguration"]["controlPlane"]
    assert found["certificateKey"] == "0123abcd"
    assert found["localAPIEndpoint"] == {"advertiseAddress": "192.0.2.11"}


def test_a_host_joins_where_the_cluster_says_that_it_is_called() -> None:
    """One that was begun alone has its first address, whatever more control planes would have."""
    found = documents(JOIN, cluster_endpoint="cluster-endpoint:6443")["JoinConfiguration"]
    assert found["discovery"]["bootstrapToken"]["apiServerEndpoint"] == "192.0.2.11:6443"


def test_pods_run_on_all_control_planes_where_there_is_no_worker() -> None:
    alone = {"control_plane": ["alpha", "beta", "gamma"]}
    for groups, taints in ((alone, []), (HOST["groups"], None)):
        found = documents(JOIN, join_control_plane=True, groups=groups)["JoinConfiguration"]
        assert found["nodeRegistration"].get("taints") == taints


ENDPOINT = "host/templates/endpoint.sh.j2"
FACTS = {"default_ipv4": {"address": "192.0.2.12"}}
SEVERAL: dict[str, Any] = {
    "groups": {"control_plane": ["alpha", "beta"], "worker": []},
    "hostvars": {
        "alpha": {"cluster_node_address": "192.0.2.11", "ansible_facts": FACTS},
        "beta": {"ansible_facts": FACTS},
    },
}


@pytest.mark.parametrize("before", ["127.0.0.1 localhost\n", "::1 localhost", ""])
def test_a_host_knows_its_control_planes_by_one_name_and_forgets_them(
    tmp_path: Path, before: str
) -> None:
    """By a copy of what is written there, whose /etc/hosts is a file of the test's."""
    hosts, script = tmp_path / "hosts", tmp_path / "endpoint.sh"
    text = rendered(ENDPOINT, **SEVERAL, cluster_state=str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    script.write_text(text.replace("hosts=/etc/hosts", f"hosts={hosts}"))
    hosts.write_text(before)
    was = hosts.stat().st_ino
    done = processes.run(["sh", str(script)])
    assert done.stdout == "cluster-endpoint is known\n"
    lines = hosts.read_text().splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [
        ["192.0.2.11", "cluster-endpoint"], ["192.0.2.12", "cluster-endpoint"],
    ]  # fmt: skip
    assert lines[:-2] == before.splitlines()
    assert processes.run(["sh", str(script)]).stdout == ""
    assert hosts.read_text().splitlines() == lines
    assert hosts.stat().st_ino == was
    assert list((tmp_path / "state").iterdir()) == []


def test_the_name_is_made_known_before_each_start_of_the_kubelet() -> None:
    unit = rendered("host/templates/kubelet.service.d/20-harness-endpoint.conf.j2")
    assert "ExecStartPre=-/bin/sh /var/lib/harness-cluster/endpoint.sh" in unit.splitlines()


def test_only_several_control_planes_are_called_by_a_name() -> None:
    """What nodes call, by Ansible's own expression."""
    defaults = yaml.safe_load((ROLES / "cluster/defaults/main.yml").read_text())

    def endpoint(*names: str) -> str:
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        given = {**defaults, "cluster_first_address": "192.0.2.11"}
        groups = {"control_plane": list(names)}
        return environment.from_string(defaults["cluster_endpoint"]).render(given, groups=groups)

    assert endpoint("alpha") == "192.0.2.11:6443"
    assert endpoint("alpha", "beta", "gamma") == "cluster-endpoint:6443"


def test_containerd_takes_the_pause_image_that_kubeadm_takes() -> None:
    found = rendered("host/templates/containerd.toml.j2")
    assert 'sandbox_image = "registry.example/pause:1"' in found
    assert "SystemdCgroup = true" in found


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("network/templates/flannel.yaml.j2", {"flannel:1", "plugin:1"}),
        ("storage/templates/local-path.yaml.j2", {"provisioner:1", "busybox:1"}),
    ],
)
def test_manifests_take_the_images_that_are_named(name: str, images: set[str]) -> None:
    found = rendered(name)
    assert set(re.findall(r"image: registry\.example/(\S+)", found)) == images
    assert len(re.findall(r"image: ", found)) == found.count("image: registry.example/")
    assert {"Namespace", "ServiceAccount", "ConfigMap"} <= set(documents(name))


def test_flannel_serves_the_pods_subnet() -> None:
    found = documents("network/templates/flannel.yaml.j2")["ConfigMap"]["data"]
    assert json.loads(found["net-conf.json"])["Network"] == "10.1.0.0/16"
    assert json.loads(found["cni-conf.json"])["plugins"][0]["type"] == "flannel"


def test_parameters_of_the_kernel_are_a_file_that_sysctl_reads() -> None:
    lines = rendered("host/templates/sysctl.conf.j2").splitlines()
    assert lines[0].startswith("# ")
    assert lines[1:] == ["net.ipv4.ip_forward = 1"]


def test_what_is_asked_of_other_projects_is_the_same_in_tests() -> None:
    """The images that the tests build stand for those that users pull."""
    machines = pytest.importorskip("tests.cluster.machines")
    defaults = yaml.safe_load((ROLES / "cluster/defaults/main.yml").read_text())
    assert defaults["cluster_flannel_image"] == machines.FLANNEL
    assert defaults["cluster_flannel_plugin_image"] == machines.FLANNEL_PLUGIN
    assert defaults["cluster_provisioner_image"] == machines.PROVISIONER
    assert defaults["cluster_helper_image"] == machines.BUSYBOX
