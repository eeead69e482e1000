from harness.load.phase import Phase
from harness.load.schedule import Schedule


def ended(due: int, started: int, late_ns: int = 0) -> Phase:
    phase = Phase(Schedule(0, 1_000), began_ns=0, began_cpu_seconds=1e9, started=started)
    assert phase.schedule is not None
    phase.schedule.taken = due
    phase.late_ns.extend([late_ns] * started)
    return phase


def test_a_driver_that_kept_up_is_not_saturated() -> None:
    assert ended(1_000, 1_000, late_ns=80_000).saturation(16) == ""


def test_slots_under_way_at_the_end_are_no_backlog() -> None:
    assert ended(100, 84).saturation(16) == ""


def test_a_backlog_is_told() -> None:
    assert "only 900 of 1000" in ended(1_000, 900).saturation(16)


def test_late_slots_are_told() -> None:
    assert "25.0 ms" in ended(1_000, 1_000, late_ns=25_000_000).saturation(16)


def test_a_busy_driver_is_told() -> None:
    phase = ended(1_000, 1_000)
    phase.began_ns, phase.began_cpu_seconds = 2**62, -1e9
    assert "of its CPU" in phase.saturation(16)


def test_a_counted_phase_is_complete_when_all_were_served() -> None:
    phase = Phase(Schedule(0, 1_000, count=3))
    assert phase.schedule is not None
    phase.schedule.take(10**12)
    phase.done = 2
    assert not phase.complete
    phase.done = 3
    assert phase.complete
