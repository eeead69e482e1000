"""What the kernel's files say of a machine's settings in; whether a measurement wants it so out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.linux import cpu_idle, facts, knobs
from harness.linux.knobs import KNOBS, State
from harness.wire.spec import Placement

CPU = "sys/devices/system/cpu"
PLACE = Placement((0,), (1,), (2,), (2,), "")


def _state(root: Path, name: str, place: Placement = PLACE) -> State | None:
    found = {knob.name: state for knob, state in knobs.states(place, root)}
    return found.get(name)


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("frequency", {f"{CPU}/cpu{n}/cpufreq/scaling_governor": "performance" for n in range(3)},
         State("performance", True)),
        ("frequency", {f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
                       f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave",
                       f"{CPU}/cpu10/cpufreq/scaling_governor": "powersave"},
         State("performance on CPU 0, powersave on CPUs 1,10", False)),
        ("frequency", {f"{CPU}/cpu0/cpufreq/scaling_governor": "schedutil"},
         State("schedutil", False)),
        ("boost", {f"{CPU}/cpufreq/boost": "1"}, State("on", False)),
        ("boost", {f"{CPU}/cpufreq/boost": "0"}, State("off", True)),
        ("boost", {f"{CPU}/intel_pstate/no_turbo": "0"}, State("on", False)),
        ("boost", {f"{CPU}/intel_pstate/no_turbo": "1"}, State("off", True)),
        ("SMT siblings", {f"{CPU}/cpu0/topology/thread_siblings_list": "0"},
         State("no other thread on the service's cores", True)),
        ("SMT siblings", {f"{CPU}/cpu0/topology/thread_siblings_list": "0,4"},
         State("on the service's cores: CPU 4", False)),
        ("interrupt affinity", {"proc/irq/24/effective_affinity_list": "0",
                                "proc/irq/25/effective_affinity_list": "1-2"},
         State("1 of 2 go to the service's CPUs", False)),
        ("interrupt affinity", {"proc/irq/25/effective_affinity_list": "1"},
         State("0 of 1 go to the service's CPUs", True)),
        ("transparent huge pages",
         {"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never"},
         State("always", False)),
        ("transparent huge pages",
         {"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]"},
         State("never", True)),
        ("NUMA balancing", {"proc/sys/kernel/numa_balancing": "1",
                            "sys/devices/system/node/online": "0-1"}, State("on", False)),
        ("NUMA balancing", {"proc/sys/kernel/numa_balancing": "1",
                            "sys/devices/system/node/online": "0"},
         State("on, with one node only", True)),
        ("NUMA balancing", {"proc/sys/kernel/numa_balancing": "0"}, State("off", True)),
        ("ASLR", {"proc/sys/kernel/randomize_va_space": "2"}, State("full", True)),
        ("ASLR", {"proc/sys/kernel/randomize_va_space": "0"}, State("off", False)),
        ("swap", {"proc/swaps": "Filename Type Size Used Priority"}, State("none", True)),
        ("swap", {"proc/swaps": "Filename Type Size Used Priority\n/swap file 99996 0 -2"},
         State("not in use", True)),
        ("swap", {"proc/swaps": "Filename Type Size Used Priority\n/a file 9999 4096 -2\n"
                                "/dev/b partition 9999 1024 -3"}, State("5 MiB in use", False)),
        ("perf_event sampling", {"proc/sys/kernel/perf_event_max_sample_rate": "100000"},
         State("100000 a second at most", True)),
        ("perf_event sampling", {"proc/sys/kernel/perf_event_max_sample_rate": "250"},
         State("250 a second at most", False)),
    ],
)  # fmt: skip
def test_files_of_the_kernel(
    name: str, files: dict[str, str], expected: State, tmp_path: Path
) -> None:
    _write(tmp_path, files)
    assert _state(tmp_path, name) == expected


def test_a_thread_that_the_plan_leaves_idle_is_no_doubt(tmp_path: Path) -> None:
    _write(tmp_path, {f"{CPU}/cpu0/topology/thread_siblings_list": "0,4"})
    place = Placement((0,), (1,), (2,), (2,), "", idle=(4,))
    state = _state(tmp_path, "SMT siblings", place)
    assert state == State("left idle on the service's cores: CPU 4", True)


def test_a_machine_without_files_has_no_such_knobs(tmp_path: Path) -> None:
    known = {knob.name for knob, _ in knobs.states(PLACE, tmp_path)}
    assert known <= {"idle CPUs", "SMT siblings", "swap"}


def test_every_knob_has_its_own_name_and_says_how_and_why_in_sentences() -> None:
    assert len({knob.name for knob in KNOBS}) == len(KNOBS)
    for knob in KNOBS:
        for said in (knob.advice, knob.why):
            assert said[0].isupper()
            assert said.endswith(".")


def test_what_can_be_held_is_held_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held,) = [knob for knob in KNOBS if knob.hold is not None]
    assert held is knobs.IDLE
    assert held.hold is not None
    with held.hold() as taken:
        assert taken == cpu_idle.DEVICE.exists()


def test_idle_cpus_are_doubted_where_they_cannot_be_kept_awake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_idle, "DEVICE", tmp_path / "device")
    assert _state(tmp_path, "idle CPUs") == State(f"no {tmp_path}/device: they halt", False)
    (tmp_path / "device").touch()
    assert _state(tmp_path, "idle CPUs") == State("kept from halting while a run lasts", True)


def test_facts_keep_what_each_knob_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [(KNOBS[1], State("powersave", False)), (KNOBS[2], State("off", True))]
    monkeypatch.setattr(knobs, "states", lambda place: iter(said))
    found = facts.facts()
    assert found["frequency_governor"] == "powersave"
    assert found["knobs"] == {"frequency": "powersave", "boost": "off"}
    assert found["knobs_to_set"] == ["frequency"]


def test_facts_of_a_machine_that_sets_its_frequency_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knobs, "states", lambda place: iter(()))
    found = facts.facts()
    assert (found["frequency_governor"], found["knobs"], found["knobs_to_set"]) == ("none", {}, [])
