"""What the included collectors cost by their own account: CPU, memory, BPF time, events lost."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.promql import grown, or_zero, rate
from harness.stack.rules import AGENT_CORES

_OF = 'harness_service=~"$service", harness_collector=~"$collector"'
_EACH = "harness_collector, harness_service"
_PROGRAM = "harness_collector, bpf_program_name"
_NAMED = "{{harness_collector}} for {{harness_service}}"
_PROGRAM_NAMED = "{{harness_collector}}: {{bpf_program_name}}"
_PARTLY = " Without kernel.bpf_stats_enabled the programs are not in it: it is the agent alone."
_NEEDS = " Empty unless the kernel counts: sysctl -w kernel.bpf_stats_enabled=1, 20 ns a run."

_agents = rate("process_cpu_time_seconds_total", _EACH, _OF)
_programs = rate("bpf_program_run_time_seconds_total", _EACH, _OF)
_both = f"({_agents} + {or_zero(_programs, _agents)})"
_events = rate("harness_agent_events_total", _EACH, _OF)
_lost = rate("harness_agent_events_lost_total", _EACH, _OF)
_time = rate("bpf_program_run_time_seconds_total", _PROGRAM, _OF)
_runs = rate("bpf_program_run_count_total", _PROGRAM, _OF)

_CPU = Row(
    "CPU",
    (
        Panel(
            "lines",
            "Agents and programs together",
            f"Share of one CPU. Above {AGENT_CORES:.0%} for five minutes the alert"
            " CollectorOverBudget is raised. What the probes cost the service itself is not in it:"
            " that takes an evaluation." + _PARTLY,
            (Query(_both, _NAMED),),
            "percentunit",
            (AGENT_CORES,),
            link="harness-results",
        ),
        Panel(
            "lines",
            "Agents",
            "User and system time of the agents' processes. It grows with the number of series,"
            " spans and events that they send: sample less if it is too much.",
            (Query(rate("process_cpu_time_seconds_total", f"{_EACH}, cpu_mode", _OF),
                   f"{_NAMED}, {{{{cpu_mode}}}}"),),
            "percentunit",
        ),
        Panel(
            "lines",
            "Programs",
            "Time inside each BPF program in a second, paid by whoever runs into it." + _NEEDS,
            (Query(f"1e9 * {_time}", _PROGRAM_NAMED),),
            "ns",
        ),
        Panel(
            "lines",
            "One run of a program",
            "Mean time of a run. A rise without more work in it means caches or contention."
            + _NEEDS,
            (Query(f"{_time} / {_runs}", _PROGRAM_NAMED),),
            "s",
        ),
        Panel(
            "lines",
            "Runs of programs",
            "How often each runs in a second: a request is several segments, so that http runs more"
            " often than there are requests." + _NEEDS,
            (Query(_runs, _PROGRAM_NAMED),),
            "ops",
        ),
        Panel(
            "lines",
            "CPU of one event",
            "Agent and programs together, divided by the events seen. Dear when little happens,"
            " because an agent wakes up all the same." + _PARTLY,
            (Query(f"{_both} / ({_events} > 0)", _NAMED),),
            "s",
        ),
    ),
)  # fmt: skip

_REST = Row(
    "Memory and events",
    (
        Panel(
            "lines",
            "Memory",
            "Resident memory of each agent, shared pages counted whole. Steady growth is a leak:"
            " restart the agent and report it.",
            (Query(f"sum by ({_EACH}) (process_memory_usage_bytes{{{_OF}}})", _NAMED),),
            "bytes",
        ),
        Panel(
            "lines",
            "Events",
            "What each collector saw in a second: requests, connections, samples, executions.",
            (Query(_events, _NAMED),),
            "cps",
        ),
        Panel(
            "figure",
            "Events lost",
            "In the time shown. Not zero: a buffer or a map was full, or no receiver took them."
            " What this collector says of that time is incomplete.",
            (Query(grown("harness_agent_events_lost_total", _EACH, _OF), _NAMED),),
            limits=(0.5,),
            link="harness-components",
        ),
        Panel(
            "lines",
            "Share of events lost",
            "Lost of lost and seen together. Drain more often (--drain) or sample less.",
            (Query(f"{_lost} / ({_events} + {_lost} > 0)", _NAMED),),
            "percentunit",
            (0.001, 0.01),
        ),
    ),
)

BOARD = Board(
    "harness-collectors",
    "Collectors: what they cost themselves",
    "How much CPU and memory do the collectors take, where, and do they lose events?",
    (
        Variable("service", "Watched service", "harness_agent_events_total", "harness_service"),
        Variable("collector", "Collector", "harness_agent_events_total", "harness_collector"),
    ),
    (_CPU, _REST),
)
