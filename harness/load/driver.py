"""The driver: gives the slots of a schedule to idle users and records what became of them."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from harness.errors import LoadError
from harness.load import failures
from harness.load.phase import Phase
from harness.load.schedule import NS_PER_SECOND, WHOLE, Schedule, Share, scheduled
from harness.load.seats import Line, Seat, Side, await_idle, crew, shares
from harness.load.timer import Timer
from harness.load.users import Crowd, User
from harness.model import Arrivals

START_DELAY_NS = 2_000_000  # the answer to `start` leaves before the first request is due
DRAIN_SECONDS = 10.0
PAUSE_SECONDS = 0.01  # a closed loop against a refused port would spin


class Driver:
    """`connections` users of a locustfile, driven in phases, one phase at a time.

    With a `twin_url` as many others are at that service, and `aim` says who gets what is due.
    Both are asked with the `login`, user:password, if there is one. Of several drivers that are one
    load each has its `share` of users and arrivals; they are told the moments at which they begin
    and end together.
    """

    def __init__(
        self,
        locustfile: Path,
        url: str,
        connections: int,
        seed: int = 0,
        twin_url: str = "",
        login: str = "",
        arrivals: Arrivals = "periodic",
        share: Share = WHOLE,
    ) -> None:
        self._connections, self._seed, self._arrivals = share.of(connections), seed, arrivals
        self._share, own_seed = share, seed + share.worker  # or all would ask for one thing at once
        self._phases, self._first_failed = 0, ""
        self._seats: dict[User, Seat] = {}
        self._phase: Phase | None = None
        self._issued, self._complete = Event(), Event()
        self._hub = gevent.get_hub()
        self._timer = Timer(self._fired)
        self._crowd = Crowd(locustfile, url, self, own_seed, login)
        kinds = [(kind.weight, kind.fixed_count) for kind in self._crowd.classes]
        weights = shares(kinds, connections)
        if share.workers > 1 and sum(map(bool, weights)) > self._connections:
            raise LoadError(
                f"{connections} connections are too few for {share.workers} load workers.",
                f"Each has a user of each of the {len(weights)} user classes, one a connection.",
                "Set connections higher, or load_workers lower.",
            )
        urls = [url, twin_url] if twin_url else [url]
        self._sides = [Side(each, bool(i), weights, own_seed) for i, each in enumerate(urls)]
        self._lines = [line for side in self._sides for line in side.lines]
        self._order = self._sides[0].order
        for side in self._sides:
            for index in crew(weights, self._connections):
                user = self._crowd.spawn(self._crowd.classes[index], side.url)
                self._seats[user] = Seat(side.lines[index])
        await_idle(self._sides, self._seats, lambda: self._first_failed)
        gc.collect()
        gc.freeze()

    def capacity(self, seconds: float, at_ns: int = 0) -> dict[str, Any]:
        """Every user of the first service without a pause for that long: what came of it.

        A task is what a schedule makes due; in most locustfiles it is one request.
        """
        _sleep_until(at_ns)
        phase = self._press()
        gevent.sleep(seconds)
        phase.stop()
        self._end()
        return phase.capacity()

    def start(
        self, rate: float | None, requests: int | None = None, at_ns: int = 0
    ) -> dict[str, Any]:
        """Begin a phase of `rate` slots a second, `requests` of them or until `finish`.

        Without a rate it is a closed loop, as in `capacity`. It begins at `at_ns`, or soon.
        """
        if rate is None:
            _sleep_until(at_ns)
            return {"at_ns": self._press().began_ns}
        self._phases += 1
        schedule = scheduled(
            self._arrivals, rate, requests, f"{self._seed}/{self._phases}", self._share
        )
        self._begin(schedule)
        if schedule.exhausted:  # of a few requests there may be none for this one of several
            self._issued.set()
        schedule.start_ns = at_ns or time.monotonic_ns() + START_DELAY_NS
        self._timer.arm(schedule.next_ns)
        return {"at_ns": schedule.start_ns}

    def aim(self, twin: bool) -> dict[str, Any]:
        """Give all that becomes due after `at_ns` to the twin, or to the first service again.

        Whoever a request that was due before is for, it stays so; a phase begins at the first.
        """
        _, schedule = self._current()
        if twin and len(self._sides) < 2:
            raise LoadError("There is no twin to aim at.", next_step="Start with --twin-url.")
        at_ns = self._take_due(schedule)
        self._order = self._sides[twin].order
        self._timer.arm(schedule.next_ns)
        self._hub.loop.run_callback(self._hand_out)
        return {"at_ns": at_ns}

    def finish(self, path: Path, at_ns: int = 0) -> dict[str, Any]:
        """Stop issuing, wait for the answers to what was due, write the requests to `path`.

        What is due after `at_ns`, if that is told, is not issued; nor is it waited for before.
        """
        if self._phase is not None and self._phase.schedule is not None:
            self._phase.schedule.until_ns = at_ns
        _sleep_until(at_ns)
        if (pressed := self._phase) is not None and pressed.schedule is None:
            pressed.stop()
            return self._written(pressed, path)  # nothing was due: what is under way is not missed
        phase, schedule = self._current()
        self._take_due(schedule)
        phase.stop()
        self._hub.loop.run_callback(self._hand_out)
        return self._summarize(phase, path)

    def wait(self, path: Path) -> dict[str, Any]:
        """Wait until all slots of a counted phase were issued, then as `finish`."""
        phase, schedule = self._current()
        if schedule.count is None:
            raise LoadError("This phase has no end to wait for.", next_step="Use `finish`.")
        self._issued.wait()
        phase.stop()
        return self._summarize(phase, path)

    def stop(self) -> None:
        """End the users, and with them whatever waits for them; safe to call again."""
        self._phase = None
        self._timer.arm(None)
        if self._seats:
            self._crowd.stop()

    # what the users call, see users.Gate

    def enter(self, user: User, nested: bool) -> None:
        """Give the calling user's slot back and wait for the next."""
        seat = self._seats[user]
        taken_over, seat.nested = seat.nested and seat.due_ns, nested
        if taken_over:
            return
        pause = PAUSE_SECONDS if seat.due_ns or seat.failed else 0
        self._leave(seat)
        if self._closed_loop or seat.line.backlog:
            gevent.sleep(pause)  # others have answers to read
        if self._closed_loop:
            due_ns = time.monotonic_ns()
        elif seat.line.backlog:
            due_ns = seat.line.backlog.popleft()
        else:
            seat.greenlet = gevent.getcurrent()
            seat.line.idle.append(seat)
            due_ns = self._hub.switch()
        seat.due_ns, seat.failed, seat.phase = due_ns, False, self._phase
        if seat.phase is not None:
            seat.phase.started += 1

    def answered(self, user: User, end_ns: int, meta: dict[str, Any]) -> None:
        """Record a request; the first one of a slot counts from when the slot was due."""
        seat = self._seats[user]
        response, error = meta.get("response"), meta.get("exception")
        status = getattr(response, "status_code", 0) or 0
        how = failures.of(status, response, error)
        if failed := bool(how):
            self._first_failed = self._first_failed or f"{failures.asked(meta)} -> {how}"
        if seat.phase is None or seat.phase is not self._phase:
            return
        start_ns = end_ns - int(meta["response_time"] * 1e6)
        if failed:
            seat.phase.failures[how] += 1
            seat.phase.first_failed = seat.phase.first_failed or failures.asked(meta)
        size = meta.get("response_length") or 0
        due_ns = seat.due_ns or start_ns
        seat.phase.record.add(
            due_ns, start_ns, end_ns, status, failed, meta["name"], size, seat.line.twin
        )
        seat.due_ns, seat.failed = 0, failed

    def task_failed(self, user: User, error: str) -> None:
        """A task that raised before it made a request is a failed request."""
        seat = self._seats[user]
        if seat.phase is self._phase and seat.due_ns:
            self._lose(seat.due_ns, f"{failures.RAISED} {error}", "(task failed)", seat.line)
            seat.due_ns, seat.failed = 0, True

    def left(self, user: User) -> None:
        """A user stopped; when the last one has, nobody waits any longer."""
        seat = self._seats.pop(user)
        self._leave(seat)
        if not self._seats:
            self._issued.set()
            self._complete.set()

    # the clockwork

    @property
    def _closed_loop(self) -> bool:
        phase = self._phase
        return phase is not None and phase.schedule is None and phase.stopped is None

    def _fired(self) -> None:
        if self._phase is not None and (schedule := self._phase.schedule) is not None:
            self._take_due(schedule)
            self._timer.arm(schedule.next_ns)
            self._hand_out()

    def _take_due(self, schedule: Schedule) -> int:
        now_ns = time.monotonic_ns()
        for due_ns in schedule.take(now_ns):
            next(self._order).backlog.append(due_ns)
        if schedule.exhausted:
            self._issued.set()
        return now_ns

    def _hand_out(self) -> None:
        """Runs in the hub: a user who is switched to runs until their request was sent."""
        if (phase := self._phase) is None:
            return
        for line in self._lines:
            while line.backlog and line.idle:
                due_ns = line.backlog.popleft()
                phase.late_ns.append(time.monotonic_ns() - due_ns)
                line.idle.popleft().greenlet.switch(due_ns)

    def _leave(self, seat: Seat) -> None:
        if (phase := seat.phase) is not None:
            phase.done += 1
            if phase is self._phase and phase.complete:
                self._complete.set()
        seat.phase, seat.due_ns = None, 0

    def _press(self) -> Phase:
        """Begin a phase in which no user of the first service pauses."""
        phase = self._begin(None)
        for seat in [seat for line in self._sides[0].lines for seat in line.idle]:
            self._hub.loop.run_callback(seat.greenlet.switch, time.monotonic_ns())
            seat.line.idle.remove(seat)
        return phase

    def _begin(self, schedule: Schedule | None) -> Phase:
        if self._phase is not None:
            raise LoadError("A phase is running already.", next_step="`finish` it first.")
        if not self._seats:
            raise LoadError(
                "All users of the locustfile have stopped.",
                "Nobody is left to make requests.",
                "The load driver's log, below logs/ in the run's folder, says why.",
            )
        self._issued.clear()
        self._complete.clear()
        gc.collect()
        gc.disable()  # a collection would delay what is due meanwhile
        self._phase, self._order = Phase(schedule), self._sides[0].order
        return self._phase

    def _current(self) -> tuple[Phase, Schedule]:
        if self._phase is None or self._phase.schedule is None:
            raise LoadError("No phase is running.", next_step="`start` one first.")
        return self._phase, self._phase.schedule

    def _end(self) -> None:
        self._phase = None
        self._timer.arm(None)
        for line in self._lines:
            line.backlog.clear()
        gc.enable()

    def _summarize(self, phase: Phase, path: Path) -> dict[str, Any]:
        self._timer.arm(None)
        if not phase.complete:
            self._complete.wait(DRAIN_SECONDS)
        self._lose_unanswered(phase)
        return self._written(phase, path)

    def _written(self, phase: Phase, path: Path) -> dict[str, Any]:
        self._end()
        phase.record.write(path)
        return phase.summary(self._connections, stopped=not self._seats)

    def _lose_unanswered(self, phase: Phase) -> None:
        for line in self._lines:
            for due_ns in line.backlog:
                self._lose(due_ns, failures.NOT_SENT, "(not sent)", line)
        for seat in self._seats.values():
            if seat.phase is phase and seat.due_ns:
                self._lose(seat.due_ns, failures.NO_ANSWER, "(no answer)", seat.line)

    def _lose(self, due_ns: int, how: str, name: str, line: Line) -> None:
        if self._phase is not None:
            now_ns = time.monotonic_ns()
            self._phase.failures[how] += 1
            self._phase.record.add(due_ns, now_ns, now_ns, 0, True, name, 0, line.twin)


def _sleep_until(at_ns: int) -> None:
    """Until this time of CLOCK_MONOTONIC; not at all if it has passed."""
    if (left_ns := at_ns - time.monotonic_ns()) > 0:
        gevent.sleep(left_ns / NS_PER_SECOND)
