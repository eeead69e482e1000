"""What the guard collector saw and what it did about it: log records, and counters of them."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.promql import grown, rate
from harness.stack.searches import Lines, Match

_OF = 'service_name=~"$service"'
_EVENTS: tuple[Match, ...] = (
    ("service.name", "=~", "$service"),
    ("scope.name", "=", "harness.guard"),
)
_KILLED: tuple[Match, ...] = (*_EVENTS, ("guard.action", "=", "kill"))
_SHOWN = (
    "guard.action", "guard.rule", "process.executable.path", "process.pid", "process.command_args",
    "file.path", "network.peer.address",
)  # fmt: skip

BOARD = Board(
    "harness-guard",
    "Guard: executions, connections, files",
    "What ran, connected and was opened that the policy watches, and what was stopped?",
    (Variable("service", "Service", "guard_events_lost_total", "service_name"),),
    (
        Row(
            "How much",
            (
                Panel(
                    "figure",
                    "Killed",
                    "Events in the time shown for which the policy kills. Each is an attack that"
                    " was stopped, or a rule that is too strict: read them below.",
                    (Query(Lines(_KILLED, "$__range"), "killed"),),
                    limits=(0.5, 0.5),
                    width=6,
                ),
                Panel(
                    "figure",
                    "Lost",
                    "Events in the time shown that found the buffer full: not zero means that the"
                    " record below has gaps.",
                    (Query(grown("guard_events_lost_total", "service_name", _OF),
                           "{{service_name}}"),),
                    limits=(0.5,),
                    width=6,
                ),
                Panel(
                    "lines",
                    "Events",
                    "Records a second by what happened. A service that suddenly executes programs"
                    " is worth a look.",
                    (Query(rate("guard_events_total", "service_name, event_name", _OF),
                           "{{service_name}} {{event_name}}"),),
                    "cps",
                ),
                Panel(
                    "lines",
                    "By rule",
                    "Records by the rule of the policy that they matched, and what was done.",
                    (Query(Lines(_EVENTS, "$__auto", ("guard.rule", "guard.action"))),),
                ),
                Panel(
                    "table",
                    "Programs",
                    "The programs with the most records in the time shown.",
                    (Query(Lines(_EVENTS, "$__range",
                                 ("service.name", "process.executable.name", "guard.rule"), 20),
                           "records"),),
                ),
            ),
        ),
        Row(
            "One by one",
            (
                Panel(
                    "logs",
                    "Records",
                    "Each record; open one for all that is known: parent, arguments, peer, file.",
                    (Query(Lines(_EVENTS, shown=_SHOWN)),),
                    width=24,
                ),
            ),
        ),
    ),
)  # fmt: skip
