"""What `guard` watches and does: rules out of a TOML file, and the tries the kernel reads.

[[rules]]
name = "no-shells"
event = "exec"                        # exec | open | connect
match = ["/bin/sh", "/tmp/*", "*.sh"] # exact, beginning, end; connect: networks, or "public"
action = "kill"                       # report | kill | ignore
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.agent.errors import AgentError

EVENTS = {"exec": 1, "open": 2, "connect": 3}  # enum kind
ACTIONS = {"ignore": 0, "report": 1, "kill": 2}  # enum verdict
PATH_LEN = 255
TOO_LONG = "too-long"
"""The pattern of paths that are so long that nobody can tell where they begin."""

ADDRESS_KEY = struct.Struct("=I16s")  # struct address_key
RULE = struct.Struct("=II")  # struct rule
_FIELDS = {"name", "event", "match", "action"}
_PRIVATE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
    *("::1/128", "fc00::/7", "fe80::/10", "ff00::/8"),
)
_ALL_OF_IPV4 = "0.0.0.0/0"
_EVERYWHERE = (_ALL_OF_IPV4, "::/0")

Trie = dict[bytes, bytes]


@dataclass(frozen=True)
class Rule:
    """One rule; `match` as it is written in the policy."""

    name: str
    event: str
    match: tuple[str, ...]
    action: str


DEFAULT = (
    Rule("executions", "exec", ("*",), "report"),
    Rule("connections", "connect", _EVERYWHERE, "report"),
    Rule(
        "secrets",
        "open",
        (
            "/etc/shadow",
            "/etc/gshadow",
            "/etc/sudoers",
            "/etc/ssh/ssh_host_*_key",
            *(
                f"{home}/.ssh/id_{kind}"
                for home in ("/root", "/home/*")
                for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk")
            ),
        ),
        "report",
    ),
)


def load(path: Path) -> tuple[Rule, ...]:
    """The rules of a policy file; AgentError says which rule is wrong and how."""
    import tomllib  # which the rules that ship are not in need of

    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise AgentError(
            f"The policy {path} cannot be read.", f"{error.strerror}.", "Check --policy."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AgentError(
            f"The policy {path} is not TOML.", f"{error}.", "Correct this line."
        ) from error
    rules = content.get("rules")
    if set(content) != {"rules"} or not isinstance(rules, list) or not rules:
        raise AgentError(
            f"The policy {path} has no rules.",
            "A policy is a list of [[rules]] and nothing else.",
            "See experiments/policies/guard.toml.",
        )
    return tuple(_rule(number, fields) for number, fields in enumerate(rules, 1))


def watching(pattern: str) -> Rule:
    """A rule that tells of the files of this pattern; AgentError if it cannot be one."""
    _check_pattern(f"--watch {pattern}", "open", pattern)
    return Rule("watched", "open", (pattern,), "report")


def unknown_paths(rules: Sequence[Rule]) -> bytes:
    """What is done, by kind of event, where a path is so long that its beginning is not known.

    What a rule for `too-long` says; else it is taken to begin as the strictest rule for beginnings
    wants it, for nobody can say that it does not.
    """
    found = [bytes(RULE.size)] * (max(EVENTS.values()) + 1)
    for event in ("exec", "open"):
        of = [(index, rule) for index, rule in enumerate(rules) if rule.event == event]
        named = [each for each in of if TOO_LONG in each[1].match]
        begin = [each for each in of if any(map(_is_beginning, each[1].match))]
        if named or begin:
            index, rule = max(named or begin, key=lambda each: ACTIONS[each[1].action])
            found[EVENTS[event]] = RULE.pack(ACTIONS[rule.action], index)
    return b"".join(found)


def address_trie(rules: Sequence[Rule]) -> Trie:
    """Map entries for the connect rules; "public" leaves private networks to other rules.

    IPv4 has its place among the addresses of IPv6 (v4-mapped): a network of IPv6 around that, as
    ::/0 is, means none of it.
    """
    trie: Trie = {}
    for index, rule in enumerate(rules):
        if rule.event == "connect":
            for network in _networks(rule.match):
                _add(trie, _address_key(network), rule, index)
    public = any("public" in rule.match for rule in rules if rule.event == "connect")
    for network in (_ALL_OF_IPV4, *(_PRIVATE if public else ())):
        trie.setdefault(_address_key(network), RULE.pack(ACTIONS["ignore"], 0))
    return trie


def _is_beginning(pattern: str) -> bool:
    return pattern == "*" or (pattern.endswith("*") and pattern.startswith("/"))


def _networks(patterns: Iterable[str]) -> Iterable[str]:
    for pattern in patterns:
        yield from _EVERYWHERE if pattern == "public" else (pattern,)


def _add(trie: Trie, key: bytes, rule: Rule, index: int) -> None:
    """Of two rules for the same pattern the stricter one is kept."""
    keep(trie, key, decision(rule, index))


def decision(rule: Rule, index: int) -> bytes:
    """The value of a map's entry: what is done, and the index of the rule that says so."""
    return RULE.pack(ACTIONS[rule.action], index)


def keep(trie: Trie, key: bytes, value: bytes) -> None:
    """Put an entry there, unless a stricter one is."""
    present = trie.get(key)
    if present is None or RULE.unpack(present)[0] < RULE.unpack(value)[0]:
        trie[key] = value


def _address_key(network: str) -> bytes:
    parsed = ipaddress.ip_network(network)
    if parsed.version == 6:
        return ADDRESS_KEY.pack(parsed.prefixlen, parsed.network_address.packed)
    mapped = bytes(10) + b"\xff\xff" + parsed.network_address.packed
    return ADDRESS_KEY.pack(96 + parsed.prefixlen, mapped)


def _rule(number: int, fields: Mapping[str, Any]) -> Rule:
    if not isinstance(fields, dict):
        raise _wrong(f"Rule {number} of the policy is not a table.", "Write it as [[rules]].")
    name = fields.get("name", f"rule-{number}")
    where = f"Rule {number} (`{name}`) of the policy"
    unknown = ", ".join(sorted(set(fields) - _FIELDS))
    if unknown:
        raise _wrong(f"{where} has unknown keys: {unknown}.", f"Known: {_listed(_FIELDS)}.")
    for field, allowed in (("event", EVENTS), ("action", ACTIONS)):
        if fields.get(field) not in tuple(allowed):
            raise _wrong(
                f"{where} has {field} = {fields.get(field)!r}.", f"Use one of {_listed(allowed)}."
            )
    match = fields.get("match")
    patterns: list[Any] = match if isinstance(match, list) else [match]
    if not patterns or not all(isinstance(each, str) for each in patterns):
        raise _wrong(f"{where} matches nothing.", "Give `match` a pattern, or a list of them.")
    rule = Rule(str(name), fields["event"], tuple(patterns), fields["action"])
    for pattern in patterns:
        _check_pattern(where, rule.event, pattern)
    return rule


def _check_pattern(where: str, event: str, pattern: str) -> None:
    if event == "connect":
        _check_network(where, pattern)
    elif pattern == TOO_LONG:
        return
    elif len(pattern.encode()) > PATH_LEN - 1:
        raise _wrong(f"{where} has a pattern of more than {PATH_LEN - 1} bytes.", "Shorten it.")
    elif event == "open" and not pattern.startswith("/"):
        raise _wrong(
            f"{where} matches opened files by `{pattern}`, which is no absolute path.",
            "Name files or a directory, such as /etc/ssl/private/*.",
        )
    elif event == "exec" and (
        not pattern.startswith(("/", "*")) or "*" in pattern[1:-1] or pattern.count("*") > 1
    ):
        raise _wrong(
            f"{where} matches executions by `{pattern}`.",
            "Use an absolute path, a beginning (/tmp/*), an end (*/nc) or everything (*).",
        )


def _check_network(where: str, pattern: str) -> None:
    if pattern == "public":
        return
    try:
        ipaddress.ip_network(pattern)
    except ValueError as error:
        raise _wrong(
            f"{where} matches connections by `{pattern}`: {error}.",
            "Use a network such as 10.0.0.0/8, an address, or public.",
        ) from error


def _wrong(what: str, next_step: str) -> AgentError:
    return AgentError(what, "", next_step)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
