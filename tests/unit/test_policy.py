"""Guard policies: what is refused and how, and which trie entries the kernel gets."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from harness.agent import policy, policy_paths
from harness.agent.errors import AgentError
from harness.agent.policy import Rule

RULE = {"event": '"exec"', "match": '"/bin/sh"', "action": '"kill"'}


def write(folder: Path, **fields: str) -> Path:
    file = folder / "policy.toml"
    lines = "\n".join(f"{key} = {value}" for key, value in {**RULE, **fields}.items() if value)
    file.write_text(f"[[rules]]\n{lines}\n")
    return file


def patterns(trie: policy.Trie) -> dict[tuple[int, bytes], tuple[int, int]]:
    """(event, significant bytes) -> (action, index of rule)."""
    found = {}
    for key, value in trie.items():
        bits, event = struct.unpack_from("=IB", key)
        found[event, key[5 : 5 + bits // 8 - 1]] = struct.unpack("=II", value)
    return found


def test_a_rule_as_written(tmp_path):
    assert policy.load(write(tmp_path, name='"no-shells"')) == (
        Rule("no-shells", "exec", ("/bin/sh",), "kill"),
    )


def test_a_file_that_is_watched_besides_is_told_of():
    assert policy.watching("/srv/*/key") == Rule("watched", "open", ("/srv/*/key",), "report")
    with pytest.raises(AgentError, match="no absolute path"):
        policy.watching("key")


def test_a_rule_without_a_name_has_its_number(tmp_path):
    assert policy.load(write(tmp_path))[0].name == "rule-1"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"event": '"execute"'}, "event = 'execute'. Use one of connect, exec, open."),
        ({"event": ""}, "event = None"),
        ({"action": '"deny"'}, "action = 'deny'. Use one of ignore, kill, report."),
        ({"action": "[1]"}, "action = [1]"),
        ({"match": "[]"}, "matches nothing"),
        ({"match": "3"}, "matches nothing"),
        ({"match": '"sh"'}, "matches executions by `sh`"),
        ({"match": '"/bin/*sh"'}, "matches executions by `/bin/*sh`"),
        ({"match": '"*/sh*"'}, "matches executions by `*/sh*`"),
        ({"match": f'"/{"x" * 254}"'}, "more than 254 bytes"),
        ({"event": '"open"', "match": '"*.key"'}, "no absolute path"),
        ({"event": '"connect"', "match": '"example.org"'}, "matches connections by `example.org`"),
        ({"event": '"connect"', "match": '"10.0.0.1/8"'}, "has host bits set"),
        ({"severity": "3"}, "unknown keys: severity"),
    ],
)
def test_a_wrong_rule_is_told_with_its_place(tmp_path, fields, words):
    with pytest.raises(AgentError) as caught:
        policy.load(write(tmp_path, **fields))
    assert words in str(caught.value)
    assert str(caught.value).startswith("Rule 1 (`rule-1`) of the policy ")


@pytest.mark.parametrize("text", ["", "rules = 3", "rules = []", "[[rules]]\n[other]"])
def test_a_policy_without_rules(tmp_path, text):
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(AgentError, match=r"has no rules|has event = None"):
        policy.load(tmp_path / "policy.toml")


def test_a_policy_that_is_no_toml_or_is_missing(tmp_path):
    (tmp_path / "policy.toml").write_text("rules = [")
    with pytest.raises(AgentError, match="is not TOML"):
        policy.load(tmp_path / "policy.toml")
    with pytest.raises(AgentError, match="cannot be read"):
        policy.load(tmp_path / "none.toml")


def test_exact_paths_beginnings_ends_and_everything():
    rules = (
        Rule("a", "exec", ("*", "/nowhere/one", "/nowhere/dir/*"), "report"),
        Rule("b", "exec", ("*/nc",), "kill"),
    )
    prefixes, suffixes = policy_paths.tries(rules)
    assert patterns(prefixes) == {
        (1, b""): (1, 0),
        (1, b"/nowhere/one\0"): (1, 0),
        (1, b"/nowhere/dir/"): (1, 0),
    }
    assert patterns(suffixes) == {(1, b"cn/"): (2, 1)}
    assert {len(key) for key in prefixes} == {260}  # struct path_key


def test_links_are_followed_because_the_kernel_sees_where_they_lead(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "program").touch()
    rules = (Rule("a", "exec", (f"{tmp_path}/link/program", f"{tmp_path}/link/*"), "kill"),)
    found = patterns(policy_paths.tries(rules)[0])
    real = os.path.realpath(tmp_path).encode()
    assert (1, real + b"/real/program\0") in found
    assert (1, real + b"/real/") in found


def led(**links):
    """What follows links at the top of a root: tmp="/" for one from /tmp to /."""

    def follow(path):
        _, name, *rest = f"{path}/".split("/", 2)
        found = links.get(name, f"/{name}").rstrip("/")
        return "/".join((found, *rest)).rstrip("/") or "/"

    return follow


def found(rules, *roots):
    return patterns(policy_paths.tries(rules, roots)[0])


def test_no_link_leads_a_rule_to_a_folder_above_its_own():
    rules = (Rule("a", "exec", ("/tmp/*", "/opt/in/x*"), "kill"),)
    as_written = {(1, b"/tmp/"): (2, 0), (1, b"/opt/in/x"): (2, 0)}
    assert found(rules, led(), led(tmp="/"), led(tmp="/", opt="/")) == {
        **as_written, (1, b"/in/x"): (2, 0),
    }  # fmt: skip
    assert found(rules, led(tmp="/"), led(opt="/")) == {**as_written, (1, b"/in/x"): (2, 0)}
    assert found((rules[0],), led(), lambda path: "/opt") == as_written
    assert found(rules, led(tmp="/srv")) == {**as_written, (1, b"/srv/"): (2, 0)}


def test_a_root_in_a_folder_has_folders_above_a_rule_of_its_own():
    def jail(path):
        return "/srv/jail" + {"/": "", "/a/tmp": "/a"}.get(path, path)

    rules = (Rule("a", "exec", ("/a/tmp/*", "/b/*"), "kill"),)
    assert set(found(rules, led(), jail)) == {
        (1, b"/a/tmp/"), (1, b"/b/"), (1, b"/srv/jail/b/"),
    }  # fmt: skip


@pytest.mark.parametrize("weaker", ["ignore", "report"])
@pytest.mark.parametrize("strict", ["/tmp/*", "/tm*", "*"])
def test_no_link_of_a_container_takes_a_path_from_a_stricter_rule(weaker, strict):
    rules = (
        Rule("weaker", "exec", ("/opt/tool", "/opt/*"), weaker),
        Rule("strict", "exec", (strict,), "kill"),
    )
    evil = led(opt="/tmp")
    assert found(rules, led(), evil) == found(rules, led())
    assert (1, b"/tmp/tool\0") not in found(rules, led())


def test_what_a_link_adds_to_a_stricter_rule_is_not_taken_either():
    rules = (
        Rule("weaker", "exec", ("/opt/tool",), "report"),
        Rule("strict", "exec", ("/tmp/*",), "kill"),
    )
    root = led(opt="/private/opt", tmp="/private")
    assert found(rules, led(), root) == {**found(rules, led()), (1, b"/private/"): (2, 1)}
    assert found(rules, root) == {**found(rules, led()), (1, b"/private/"): (2, 1)}


def test_an_exception_to_a_stricter_rule_is_one_where_own_links_lead():
    rules = (
        Rule("most", "exec", ("/bin/*",), "kill"),
        Rule("one", "exec", ("/bin/sh", "/opt/*"), "ignore"),
    )
    own = led(bin="/usr/bin", opt="/usr/bin/opt")
    written = found(rules, led())
    assert found(rules, own) == {
        **written, (1, b"/usr/bin/"): (2, 0), (1, b"/usr/bin/sh\0"): (0, 1),
    }  # fmt: skip
    assert found(rules, led(), own) == {**written, (1, b"/usr/bin/"): (2, 0)}


def test_what_own_links_say_is_not_changed_by_a_container():
    rules = (
        Rule("tmp", "exec", ("/tmp/*",), "kill"),
        Rule("shell", "exec", ("/bin/sh",), "report"),
    )
    both = found(rules, led(bin="/usr/bin"), led(tmp="/usr"))
    assert both[1, b"/usr/bin/sh\0"] == (1, 1)


def test_of_two_rules_for_one_pattern_the_stricter_is_kept():
    rules = tuple(
        Rule(action, "exec", ("/nowhere",), action) for action in ("kill", "report", "ignore")
    )
    assert patterns(policy_paths.tries(rules)[0]) == {(1, b"/nowhere\0"): (2, 0)}


def test_an_entry_gives_way_to_a_stricter_one_alone():
    def value(action: str) -> bytes:
        (found,) = policy_paths.tries((Rule("x", "open", ("/x",), action),))[0].values()
        return found

    trie: policy.Trie = {}
    for action, kept in (("report", "report"), ("kill", "kill"), ("report", "kill")):
        policy.keep(trie, b"/data/token", value(action))
        assert trie == {b"/data/token": value(kept)}


def test_networks_are_kept_as_ipv6():
    rules = (Rule("a", "connect", ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32"), "report"),)
    trie = policy.address_trie(rules)
    v4 = bytes(10) + b"\xff\xff"
    assert set(trie) == {
        struct.pack("=I", 104) + v4 + bytes([10, 0, 0, 0]),
        struct.pack("=I", 128) + v4 + bytes([192, 0, 2, 1]),
        struct.pack("=I", 32) + bytes.fromhex("20010db8") + bytes(12),
        struct.pack("=I", 96) + v4 + bytes(4),  # what no rule means
    }
    assert trie.pop(struct.pack("=I", 96) + v4 + bytes(4)) == struct.pack("=II", 0, 0)
    assert set(trie.values()) == {struct.pack("=II", 1, 0)}


@pytest.mark.parametrize("network", ["::/0", "::/8", "::/80", "::fffe:0:0/95"])
def test_a_network_of_ipv6_means_no_ipv4(network):
    everything = struct.pack("=I", 96) + bytes(10) + b"\xff\xff" + bytes(4)
    six, four = (
        Rule("6", "connect", (network,), "kill"),
        Rule("4", "connect", ("0.0.0.0/0",), "report"),
    )
    assert policy.address_trie((six,))[everything] == struct.pack("=II", 0, 0)
    assert policy.address_trie((six, four))[everything] == struct.pack("=II", 1, 1)


def test_ipv4_may_be_spelled_as_ipv6():
    (only,) = policy.address_trie((Rule("a", "connect", ("::ffff:0:0/96",), "kill"),)).items()
    assert only == (
        struct.pack("=I", 96) + bytes(10) + b"\xff\xff" + bytes(4),
        struct.pack("=II", 2, 0),
    )


def test_public_spares_private_networks_unless_a_rule_names_them():
    rules = (
        Rule("a", "connect", ("public",), "kill"),
        Rule("b", "connect", ("10.0.0.0/8",), "report"),
    )
    trie = policy.address_trie(rules)
    v4 = bytes(10) + b"\xff\xff"
    assert trie[struct.pack("=I", 96) + v4 + bytes(4)] == struct.pack("=II", 2, 0)
    assert trie[struct.pack("=I", 104) + v4 + bytes([10, 0, 0, 0])] == struct.pack("=II", 1, 1)
    assert trie[struct.pack("=I", 104) + v4 + bytes([127, 0, 0, 0])] == struct.pack("=II", 0, 0)


@pytest.mark.parametrize(
    ("rules", "exec_rule", "open_rule"),
    [
        ([("exec", "/bin/sh", "kill"), ("open", "/etc/shadow", "kill")], (0, 0), (0, 0)),
        ([("exec", "*", "report"), ("exec", "/tmp/*", "kill")], (2, 1), (0, 0)),
        ([("exec", "*.sh", "kill"), ("open", "/keys/*", "report")], (0, 0), (1, 1)),
        ([("exec", "/tmp/*", "kill"), ("exec", "too-long", "report")], (1, 1), (0, 0)),
        ([("exec", "/tmp/*", "kill"), ("exec", "too-long", "ignore")], (0, 1), (0, 0)),
        ([("open", "too-long", "kill"), ("connect", "public", "kill")], (0, 0), (2, 0)),
    ],
)
def test_a_path_that_is_too_long_to_know_is_what_the_strictest_rule_wants(
    rules: list[tuple[str, str, str]], exec_rule: tuple[int, int], open_rule: tuple[int, int]
) -> None:
    made = tuple(Rule(event, event, (match,), action) for event, match, action in rules)
    found = struct.unpack("=8I", policy.unknown_paths(made))
    assert (found[2:4], found[4:6]) == (exec_rule, open_rule)
    assert found[:2] == found[6:] == (0, 0)
    assert not any(b"too-long" in key for trie in policy_paths.tries(made) for key in trie)


def test_paths_that_are_too_long_are_a_pattern(tmp_path):
    for event in ('"exec"', '"open"'):
        assert policy.load(write(tmp_path, event=event, match='"too-long"'))[0].match == (
            "too-long",
        )


def test_a_path_behind_a_link_may_be_longer_than_a_key(tmp_path):
    rules = (Rule("a", "exec", ("/x",), "kill"),)
    found = patterns(policy_paths.tries(rules, [lambda _: "/" + "n" * 300])[0])
    assert (1, b"/" + b"n" * 254) in found


def test_a_link_of_a_container_to_a_single_file_is_told_where_its_rule_kills():
    rules = (
        Rule("tool", "exec", ("/opt/tool", "/opt/*", "/plain/tool", "/own/tool"), "kill"),
        Rule("told", "exec", ("/opt/other",), "report"),
        Rule("peer", "connect", ("192.0.2.1",), "kill"),
    )
    own, other = led(own="/usr"), led(opt="/usr", own="/usr")
    assert policy_paths.led(rules, [own]) == set()
    assert policy_paths.led(rules, [own, own]) == set()
    assert policy_paths.led(rules, [own, other]) == {("tool", "/opt/tool", "/usr/tool")}


def test_a_root_in_a_folder_leads_nowhere_by_being_there():
    rules = (Rule("tool", "exec", ("/opt/tool",), "kill"),)
    assert policy_paths.led(rules, [led(), lambda path: f"/srv/jail{path}".rstrip("/")]) == set()
