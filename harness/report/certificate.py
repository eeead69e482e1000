"""certificate.md and its figures, from a certificate as a dictionary; `calibrate` calls it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from harness.analysis import hour
from harness.errors import StoreError
from harness.report import precision, wording

# the key of what an arm's metric is to show; what burns do to the tail of latency is not known
TRUTHS = {"workload_cpu_us": "truth_us", "latency_p50_us": "latency_us", "latency_p99_us": ""}
MARKS = {True: "met", False: "**not met**", None: "cannot be told here"}
_TEMPLATE = Path(__file__).with_name("certificate.md.j2")

Row = tuple[str, ...]


def write(folder: Path, certificate: Mapping[str, Any]) -> list[Path]:
    """Write certificate.md, noise.png and recovered.png; StoreError where that fails."""
    try:
        path = folder / "certificate.md"
        path.write_text(text(certificate))
        return [path, *precision.write(folder, certificate)]
    except OSError as error:
        raise StoreError(
            f"Cannot write into {folder}: {error.strerror}.",
            next_step="Make room there, or let it be written to.",
        ) from error


def text(certificate: Mapping[str, Any]) -> str:
    """The certificate as Markdown."""
    entry = certificate["entry_ns"]
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals["table"] = _table
    environment.filters["plain"] = _plain
    environment.filters["signed"] = _signed
    environment.filters["g"] = "{:g}".format
    return environment.from_string(_TEMPLATE.read_text()).render(
        c=certificate,
        machine=", ".join(_machine(certificate["facts"])),
        command=shlex.join(certificate["command"]),
        wishes=list(_wishes(certificate)),
        arms=list(_arms(certificate)),
        coverage=list(_coverage(certificate)),
        power=list(_power(certificate)),
        noise_rows=list(_noise(certificate)),
        entry_rows=[(hook, *_interval(row, "entry_ns")) for hook, row in entry.items()],
        hour_rows=list(_hour(certificate)),
        residual_rows=[
            (row["arm"], *_interval(row, "estimate")) for row in certificate["residual"]
        ],
        switch_ms=_middle(certificate["switch_ms"].values()),
    )


def wishes(certificate: Mapping[str, Any]) -> list[Row]:
    """What was wished, the limit, what was found, whether it is met: for a terminal."""
    return [tuple(cell.replace("*", "") for cell in row) for row in _wishes(certificate)]


def _machine(facts: Mapping[str, Any]) -> Iterator[str]:
    forms = {
        "cpu_model": "{}", "cpus_online": "{} CPUs", "kernel": "kernel {}", "distribution": "{}",
        "virtualisation": "{}",
    }  # fmt: skip
    for key, form in forms.items():
        if facts.get(key):
            yield form.format(facts[key])


def _wishes(certificate: Mapping[str, Any]) -> Iterator[Row]:
    for wish in certificate["wishes"]:
        side = "at least" if wish["wish"].startswith("coverage") else "at most"
        yield (
            wish["wish"], f"{side} {wish['limit_percent']:g} %",
            "?" if wish["found_percent"] is None else f"{_plain(wish['found_percent'])} %",
            MARKS[wish["met"]],
        )  # fmt: skip


def _arms(certificate: Mapping[str, Any]) -> Iterator[Row]:
    """Injected beside recovered: CPU, then latency, then what agents burnt."""
    for arm in certificate["arms"]:
        for row in arm["recovered"]:
            key = TRUTHS[row["metric"]]
            yield (arm["arm"], row["metric"], *_estimate(row, arm[key] if key else None))
    for row in certificate["agents"]:
        yield (row["arm"], "agent_us", *_estimate(row, row["truth_us"]))


def _estimate(row: Mapping[str, Any], truth: float | None) -> Row:
    """Truth, estimate, interval, whether that contains the truth; of no truth, no verdict."""
    low, high = row["low"], row["high"]
    if truth is None:
        return ("", *_estimate(row, math.inf)[1:3], "")
    if low is None or high is None:
        return (_plain(truth), _plain(row["estimate"]), "no interval", "")
    places = wording.decimals((high - low) / 2)
    numbers = (truth, row["estimate"], low, high)
    shown = [wording.number(value, places, signed=True) for value in numbers]
    hit = "yes" if low <= truth <= high else "no"
    return (shown[0], shown[1], f"[{shown[2]}, {shown[3]}]", hit)


def _coverage(certificate: Mapping[str, Any]) -> Iterator[Row]:
    found = certificate["coverage"]
    latency = found["latency_arms"]
    for name, share in found["arms"].items():
        mine = _share(latency[name]) if name in latency else ("", "", "")
        yield (name, *_share(share), *mine)
    yield ("**what counts**", *_share(found["cpu"]), *_share(found["latency"]))
    yield ("whole trials", "", "", "", *_share(found["latency_trials"]))


def _share(share: Mapping[str, Any]) -> Row:
    if not share["n"]:
        return ("0 of 0", "", "")
    interval = f"[{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
    return (f"{share['k']} of {share['n']}", f"{share['percent']:.1f} %", interval)


def _power(certificate: Mapping[str, Any]) -> Iterator[Row]:
    for arm in certificate["power"]:
        yield (
            arm["arm"], _plain(arm["truth_us"]), f"{_plain(arm['truth_percent'])} %",
            *(f"{each['percent']:.0f} %" if each["n"] else "" for each in arm["found"]),
        )  # fmt: skip


def _noise(certificate: Mapping[str, Any]) -> Iterator[Row]:
    for row in certificate["noise"]["windows"]:
        chosen = row["window_seconds"] == certificate["window_seconds"]
        window = f"{1e3 * row['window_seconds']:g}"
        yield (
            f"**{window}**" if chosen else window, f"{1e3 * row['guard_seconds']:g}",
            str(row["quadruples"]), _plain(row.get("window_error_percent")),
            _plain(row["error_percent"]), _plain(row["sd_percent"]), _plain(row["mad_percent"]),
            "?" if row["autocorrelation"] is None else wording.number(row["autocorrelation"], 2),
        )  # fmt: skip


def _hour(certificate: Mapping[str, Any]) -> Iterator[Row]:
    """What its trials met; nothing of a certificate that kept none."""
    for name, row in certificate.get(hour.KEY, {}).items():
        words, factor = hour.WORDS.get(name, (f"{name}, µs", 1.0))
        yield (words, *(_plain(factor * row[key]) for key in ("low", "middle", "high")))


def _interval(row: Mapping[str, Any], key: str) -> Row:
    low, high = row.get("low"), row.get("high")
    if low is None or high is None:
        return (_plain(row[key]), "no interval")
    places = wording.decimals((high - low) / 2)
    shown = [wording.number(value, places) for value in (row[key], low, high)]
    return (shown[0], f"[{shown[1]}, {shown[2]}]")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _plain(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "?"
    return wording.plain(value) if value >= 0 else wording.MINUS + wording.plain(-value)


def _signed(value: float | None) -> str:
    return f"+{_plain(value)}" if value is not None and value > 0 else _plain(value)


def _middle(values: Any) -> float | None:
    found = sorted(values)
    return found[len(found) // 2] if found else None
