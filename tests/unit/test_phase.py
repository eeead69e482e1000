import pytest

from harness.errors import LoadError
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


def pressed(good: int, bad: int, tasks: int) -> Phase:
    phase = Phase(None, done=tasks)
    for number in range(good + bad):
        phase.record.add(0, 0, 1, 429 if number < bad else 200, number < bad, "/", 0)
    phase.failures["429 Too Many Requests"] = bad
    phase.began_ns -= 10**9
    return phase


def test_a_capacity_is_what_was_answered_well() -> None:
    phase = pressed(300, 1200, 1500)
    found, seconds = phase.capacity(), phase.stop().seconds
    assert found["rate"] * seconds == pytest.approx(300)
    assert found["refused"] * seconds == pytest.approx(1200)
    assert found["failures"] == {"429 Too Many Requests": 1200}


def test_a_limit_on_requests_is_no_limit_on_whole_tasks() -> None:
    phase = pressed(300, 1700, 200)  # ten requests each: none of the tasks came through whole
    assert phase.capacity()["rate"] * phase.stop().seconds == pytest.approx(30)


def test_a_service_that_answers_nothing_well_says_what_it_answered() -> None:
    with pytest.raises(LoadError, match=r"no request well.* 50 were made: 50 x 429 Too Many"):
        pressed(0, 50, 50).capacity()
    refused = pressed(0, 50, 50)
    refused.first_failed = "POST /login"
    with pytest.raises(LoadError, match=r"50 x 429 Too Many Requests, first POST /login\. Only"):
        refused.capacity()


def test_a_locustfile_that_asks_for_nothing_is_told_as_that() -> None:
    with pytest.raises(LoadError, match=r"made no request\. They ran 50 tasks without one\."):
        pressed(0, 0, 50).capacity()


def test_redirects_are_answers_and_are_counted() -> None:
    phase = pressed(10, 0, 40)
    for _ in range(30):
        phase.record.add(0, 0, 1, 302, False, "/", 0)
    assert phase.capacity()["redirects"] == pytest.approx(0.75)


def test_a_service_slower_than_the_search_for_its_capacity_is_called_slow() -> None:
    slow = Phase(None, started=16)
    with pytest.raises(LoadError, match=r"none of 16 requests within .* calibration_seconds"):
        slow.capacity()
