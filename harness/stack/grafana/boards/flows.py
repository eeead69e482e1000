"""TCP connections as the flows collector counts them."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.promql import or_zero, rate

_OF = 'service_name=~"$service"'
_ROLE = "service_name, tcp_role"
_PEER = "service_name, tcp_role, network_peer_address"

_bytes = rate("tcp_io_bytes_total", _PEER, _OF)
_again = rate("tcp_retransmits_total", _PEER, _OF)
_failed = rate("tcp_connections_failed_total", _ROLE, _OF)
_opened = rate("tcp_connections_opened_total", _ROLE, _OF)

BOARD = Board(
    "harness-flows",
    "Flows: TCP connections",
    "Whom does a service talk to, how much, and is the network good?",
    (Variable("service", "Service", "tcp_connections_opened_total", "service_name"),),
    (
        Row(
            "Connections",
            (
                Panel(
                    "lines",
                    "Opened",
                    "Connections opened in a second, as server or client. Many short ones cost"
                    " more than their requests: let callers keep them open.",
                    (Query(_opened, "{{service_name}} as {{tcp_role}}"),),
                    "cps",
                ),
                Panel(
                    "lines",
                    "Closed",
                    "Connections closed in a second. For long less than were opened: they pile up.",
                    (Query(rate("tcp_connections_closed_total", _ROLE, _OF),
                           "{{service_name}} as {{tcp_role}}"),),
                    "cps",
                ),
                Panel(
                    "lines",
                    "Failed",
                    "Connections in a second that were not made: refused, timed out, unreachable,"
                    " given up; error_type of tcp_connections_failed_total says which.",
                    (Query(or_zero(_failed, _opened), "{{service_name}} as {{tcp_role}}"),),
                    "cps",
                    (0.1, 1.0),
                ),
                Panel(
                    "lines",
                    "Open now, by state",
                    "close_wait that grows: the service does not close what its peer closed."
                    " syn_sent that stays: the peer does not answer.",
                    (Query(
                        "sum by (service_name, network_connection_state)"
                        f" (tcp_connections_active{{{_OF}}})",
                        "{{service_name}} {{network_connection_state}}",
                    ),),
                ),
            ),
        ),
        Row(
            "Network",
            (
                Panel(
                    "lines",
                    "Bytes",
                    "Payload sent and received in a second.",
                    (Query(rate("tcp_io_bytes_total", "service_name, network_io_direction", _OF),
                           "{{service_name}} {{network_io_direction}}"),),
                    "Bps",
                ),
                Panel(
                    "lines",
                    "Round-trip time",
                    "The kernel's smoothed estimate, mean over connections, by peer; only of those"
                    " on which something was sent. A rise at one peer: it, or the way to it.",
                    (Query(f"max by ({_PEER}) (tcp_rtt_seconds{{{_OF}}})",
                           "{{service_name}} to {{network_peer_address}}"),),
                    "s",
                ),
                Panel(
                    "lines",
                    "Sent again",
                    "Segments retransmitted in a second: loss on the way. Zero is usual within a"
                    " machine.",
                    (Query(rate("tcp_retransmits_total", _ROLE, _OF),
                           "{{service_name}} as {{tcp_role}}"),),
                    "pps",
                    (1.0, 10.0),
                ),
                Panel(
                    "table",
                    "Peers",
                    "The ten peers with the most bytes a second, and segments sent again to each."
                    " One without an address: all that are not told one by one.",
                    (
                        Query(f"topk(10, {_bytes})", "bytes", unit="Bps"),
                        Query(f"{or_zero(_again, _bytes)} and topk(10, {_bytes})", "again",
                              unit="pps"),
                    ),
                ),
            ),
        ),
    ),
)  # fmt: skip
