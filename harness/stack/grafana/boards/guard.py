"""What the guard collector saw and what it did about it: log records, and counters of them."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.promql import grown, rate

_OF = 'service_name=~"$service"'
_EVENTS = f'{{{_OF}}} | scope_name="harness.guard"'
_KILLED = f'{_EVENTS} | guard_action="kill"'
_LINE = (
    "{{.guard_action}} {{.guard_rule}}: {{__line__}} by"
    " {{.process_executable_path | default .process_executable_name}} ({{.process_pid}})"
    " {{.process_command_args}} {{.file_path}} {{.network_peer_address}}"
)

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
                    (Query(f"sum(count_over_time({_KILLED} [$__range])) or vector(0)", "killed",
                           source="loki"),),
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
                    (Query(f"sum by (guard_rule, guard_action) (count_over_time({_EVENTS}"
                           " [$__auto]))", "{{guard_rule}}: {{guard_action}}", source="loki"),),
                ),
                Panel(
                    "table",
                    "Programs",
                    "The programs with the most records in the time shown.",
                    (Query("topk(20, sum by (service_name, process_executable_name, guard_rule)"
                           f" (count_over_time({_EVENTS} [$__range])))", "records",
                           source="loki"),),
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
                    (Query(f"{_EVENTS} | line_format `{_LINE}`", source="loki"),),
                    width=24,
                ),
            ),
        ),
    ),
)  # fmt: skip
