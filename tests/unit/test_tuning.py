"""What disturbs a measurement is set as wanted and given back, on a tree of the kernel's files."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import processes, tunables, tuning, units
from harness.linux.tunables import KINDS, Kind, Wish
from harness.wire.spec import Placement

CPU = "sys/devices/system/cpu"
PLACE = Placement((0,), (1,), (2,), (2,), "")
MACHINE = {
    f"{CPU}/online": "0-3",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave",
    f"{CPU}/cpu0/cpufreq/scaling_available_governors": "performance powersave",
    f"{CPU}/cpu1/cpufreq/scaling_governor": "schedutil",
    f"{CPU}/cpu1/cpufreq/scaling_available_governors": "schedutil",
    f"{CPU}/cpufreq/boost": "1",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0,3",
    f"{CPU}/smt/control": "on",
    "proc/irq/4/smp_affinity_list": "0-3",
    "proc/irq/4/effective_affinity_list": "0",
    "proc/irq/5/smp_affinity_list": "0-3",
    "proc/irq/5/effective_affinity_list": "2",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
    "sys/devices/system/node/online": "0-1",
    "proc/sys/kernel/numa_balancing": "1",
    "proc/sys/kernel/randomize_va_space": "0",
    "proc/sys/kernel/perf_event_max_sample_rate": "250",
}
WANTED = {
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
    f"{CPU}/cpufreq/boost": "0",
    "proc/irq/4/smp_affinity_list": "1-3",
    "sys/kernel/mm/transparent_hugepage/enabled": "madvise",
    "proc/sys/kernel/numa_balancing": "0",
    "proc/sys/kernel/randomize_va_space": "2",
    "proc/sys/kernel/perf_event_max_sample_rate": "100000",
    f"{CPU}/smt/control": "off",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    for name, text in MACHINE.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return made


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "tuned.json"


def now(root: Path) -> dict[str, str]:
    return {name: KINDS["file"].read(str(root / name)) for name in MACHINE}


def test_what_is_wanted_of_a_machine_that_has_everything(root: Path) -> None:
    found = tunables.wishes(PLACE, root)
    assert {str(Path(each.what).relative_to(root)): each.wanted for each in found} == WANTED
    assert found[-1].knob == "SMT siblings"  # the files of others go with the CPUs


def test_nothing_is_wanted_of_a_machine_that_has_nothing(tmp_path: Path) -> None:
    assert tunables.wishes(PLACE, tmp_path) == []


def test_siblings_that_are_kept_idle_stay(root: Path) -> None:
    idle = Placement((0,), (1,), (2,), (2,), "", idle=(3,))
    assert "SMT siblings" not in {each.knob for each in tunables.wishes(idle, root)}


def test_all_is_set_and_given_back(root: Path, note: Path) -> None:
    before = now(root)
    outcome = tuning.tune(PLACE, note, root)
    assert not outcome.refused
    assert len(outcome.done) == len(WANTED)
    assert now(root) == {**before, **WANTED}
    assert tuning.tune(PLACE, note, root).done == []  # again: nothing is left to set
    assert len(tuning.noted(note)) == len(WANTED)
    back = tuning.restore(note)
    assert not back.refused
    assert now(root) == before
    assert not note.exists()
    assert tuning.restore(note).done == []


def test_the_first_of_two_calls_says_what_was(root: Path, note: Path) -> None:
    tuning.tune(PLACE, note, root)
    boost = root / CPU / "cpufreq/boost"
    boost.write_text("1")  # somebody else; tuned again
    tuning.tune(PLACE, note, root)
    tuning.restore(note)
    assert boost.read_text() == "1"
    assert now(root)[f"{CPU}/cpu0/cpufreq/scaling_governor"] == "powersave"


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    plain = KINDS["file"]

    def write(place: str, value: str) -> None:
        if place.endswith(name):
            raise error
        plain.write(place, value)

    monkeypatch.setitem(KINDS, "file", Kind(plain.read, write))


def test_what_the_kernel_refuses_is_told_and_not_given_back(
    root: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "irq/4/smp_affinity_list", OSError(5, "Input/output error"))
    outcome = tuning.tune(PLACE, note, root)
    (said,) = outcome.refused
    assert said.startswith("interrupt affinity: ")
    assert said.endswith("cannot be set: Input/output error.")
    assert len(tuning.noted(note)) == len(WANTED) - 1
    assert len(tuning.restore(note).done) == len(WANTED) - 1


def test_a_value_that_is_not_taken_is_told(
    root: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("file", "SMT"):
        monkeypatch.setitem(KINDS, kind, Kind(KINDS[kind].read, lambda place, value: None))
    outcome = tuning.tune(PLACE, note, root)
    assert len(outcome.refused) == len(WANTED)
    assert "It is 1 after 0 was written." in " ".join(outcome.refused)


def test_one_that_was_killed_in_the_middle_is_given_back(
    root: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = now(root)
    with monkeypatch.context() as patched:
        failing(patched, "numa_balancing", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(PLACE, note, root)
    assert now(root) != before
    assert not tuning.restore(note).refused
    assert now(root) == before


def test_what_others_set_since_is_left_and_told(root: Path, note: Path) -> None:
    tuning.tune(PLACE, note, root)
    pages = root / "sys/kernel/mm/transparent_hugepage/enabled"
    pages.write_text("always madvise [never]")
    (said,) = tuning.restore(note).refused
    assert "was set to never by somebody else" in said
    assert pages.read_text() == "always madvise [never]"
    assert not note.exists()


def test_what_cannot_be_given_back_now_stays_noted(
    root: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning.tune(PLACE, note, root)
    with monkeypatch.context() as patched:
        failing(patched, "cpufreq/boost", OSError(16, "Device or resource busy"))
        assert len(tuning.restore(note).refused) == 1
    assert [each.knob for each in tuning.noted(note)] == ["boost"]
    assert tuning.restore(note).done == [f"boost: {root / CPU / 'cpufreq/boost'} is 1 again"]


def test_two_at_once_are_refused(root: Path, note: Path) -> None:
    with note.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(NeedError, match="Another `harness tune`"):
            tuning.tune(PLACE, note, root)
    tuning.restore(note)


def test_swap_that_is_in_use_is_switched_off_and_on_with_its_priority(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "Filename Type Size Used Priority\n/a\\040b partition 999 {} -2\n/c file 999 0 5\n"
    swaps = root / "proc/swaps"
    swaps.write_text(table.format(0))
    assert not [each for each in tunables.wishes(PLACE, root) if each.kind == "swap"]
    swaps.write_text(table.format(12))
    (wish, *_) = tunables.wishes(PLACE, root)
    assert wish == Wish("swap", "swap", "/a b", "on", "off")
    both = [line.replace(" 0 5", " 8 5") for line in table.format(12).splitlines()]
    swaps.write_text("\n".join(both))
    areas = [each.what for each in tunables.wishes(PLACE, root) if each.kind == "swap"]
    assert areas == ["/a b", "/c"]  # and so the preferred one is switched on first again
    ran: list[list[str]] = []
    monkeypatch.setattr(processes, "run", lambda argv, **_: ran.append(argv))
    KINDS["swap"].write("/c", "off")
    KINDS["swap"].write("/c", "on, priority 5")
    KINDS["swap"].write("/c", "on")
    assert ran == [["swapoff", "/c"], ["swapon", "--priority=5", "/c"], ["swapon", "/c"]]


def test_timers_of_a_machine_whose_systemd_cannot_be_asked_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SYSTEMD", tmp_path)  # a pod sees its node's /run
    monkeypatch.setenv("PATH", str(tmp_path))
    assert units.active("apt-daily.timer") == []
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\nprintf 'inactive\\nactive\\n'; exit 3\n")
    systemctl.chmod(0o755)
    assert units.active("fstrim.timer", "apt-daily.timer") == ["apt-daily.timer"]


def test_what_was_changed_to_something_else_is_given_back(
    root: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, plain = now(root), KINDS["file"]
    other = {"performance": "ondemand"}  # as a driver that rounds what it is told
    with monkeypatch.context() as patched:
        patched.setitem(
            KINDS, "file", Kind(plain.read, lambda place, v: plain.write(place, other.get(v, v)))
        )
        (said,) = tuning.tune(PLACE, note, root).refused
    assert "It is ondemand after performance was written." in said
    assert not tuning.restore(note).refused
    assert now(root) == before


def test_an_interrupt_of_a_device_that_is_gone_is_told_once(root: Path, note: Path) -> None:
    tuning.tune(PLACE, note, root)
    (root / "proc/irq/4/smp_affinity_list").unlink()
    (said,) = tuning.restore(note).refused
    assert said.startswith("interrupt affinity: ")
    assert not note.exists()


ELSEWHERE = Placement((1,), (2,), (3,), (3,), "")


def test_what_a_second_call_sets_otherwise_is_given_back_as_it_was_before_the_first(
    root: Path, note: Path
) -> None:
    before = now(root)
    interrupt = root / "proc/irq/4"
    tuning.tune(PLACE, note, root)
    (interrupt / "effective_affinity_list").write_text("1\n")  # as the kernel chose
    tuning.tune(ELSEWHERE, note, root)
    assert (interrupt / "smp_affinity_list").read_text() == "0,2-3"
    assert not tuning.restore(note).refused
    (interrupt / "effective_affinity_list").write_text("0\n")
    assert now(root) == before


@pytest.mark.parametrize("was_set", [False, True])
def test_a_second_call_that_was_killed_in_the_middle_is_given_back(
    root: Path, note: Path, monkeypatch: pytest.MonkeyPatch, was_set: bool
) -> None:
    before = now(root)
    tuning.tune(PLACE, note, root)
    (root / "proc/irq/4/effective_affinity_list").write_text("1\n")
    with monkeypatch.context() as patched:
        plain = KINDS["file"]

        def write(place: str, value: str) -> None:
            if was_set:
                plain.write(place, value)
            raise KeyboardInterrupt

        patched.setitem(KINDS, "file", Kind(plain.read, write))
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(ELSEWHERE, note, root)
    assert not tuning.restore(note).refused
    (root / "proc/irq/4/effective_affinity_list").write_text("0\n")
    assert now(root) == before
    assert not note.exists()


@pytest.fixture
def without_a_cpu(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CPU 2 is off by somebody's wish; writing `on` brings all that are present, as the kernel."""
    cpus, plain = root / CPU, tunables._write_file
    (cpus / "present").write_text("0-3\n")
    (cpus / "online").write_text("0-1,3\n")
    (cpus / "cpu2").mkdir()
    (cpus / "cpu2/online").write_text("0\n")

    def write(place: str, value: str) -> None:
        plain(place, value)
        if place.endswith("smt/control"):
            (cpus / "online").write_text("0-3\n" if value == "on" else "0-1\n")
            (cpus / "cpu2/online").write_text("1\n" if value == "on" else "0\n")
        elif place.endswith("cpu2/online"):
            (cpus / "online").write_text("0-1,3\n")

    monkeypatch.setattr(tunables, "_write_file", write)
    return cpus


def test_a_cpu_that_was_off_is_off_again_when_siblings_come_back(
    without_a_cpu: Path, root: Path, note: Path
) -> None:
    control = without_a_cpu / "smt/control"
    tuning.tune(PLACE, note, root)
    assert tuning.noted(note)[-1] == Wish(
        "SMT siblings", "SMT", str(control), "on, CPU 2 off", "off"
    )
    assert (without_a_cpu / "online").read_text() == "0-1\n"
    back = tuning.restore(note)
    assert not back.refused
    assert back.done[0] == f"SMT siblings: {control} is on, CPU 2 off again"
    assert control.read_text() == "on"
    assert (without_a_cpu / "online").read_text() == "0-1,3\n"


def test_who_was_killed_before_a_cpu_was_off_again_is_helped_by_the_same_call(
    without_a_cpu: Path, root: Path, note: Path
) -> None:
    tuning.tune(PLACE, note, root)
    tunables._write_file(str(without_a_cpu / "smt/control"), "on")
    assert not tuning.restore(note).refused
    assert (without_a_cpu / "online").read_text() == "0-1,3\n"
    assert not note.exists()


def test_areas_of_swap_that_would_be_preferred_by_then_go_off_with_one_that_is_in_use(
    root: Path,
) -> None:
    """The kernel gives the last one that is switched on the last of the negative priorities."""
    rows = ("/first file 999 8 -2", "/second file 999 0 -3", "/own file 999 0 5")
    (root / "proc/swaps").write_text("\n".join(("Filename Type Size Used Priority", *rows)))
    areas = [each.what for each in tunables.wishes(PLACE, root) if each.kind == "swap"]
    assert areas == ["/second", "/first"]
    used = [rows[0].replace(" 8 ", " 0 "), rows[1].replace(" 0 ", " 8 "), rows[2]]
    (root / "proc/swaps").write_text("\n".join(("Filename Type Size Used Priority", *used)))
    areas = [each.what for each in tunables.wishes(PLACE, root) if each.kind == "swap"]
    assert areas == ["/second"]  # the first stays before it
