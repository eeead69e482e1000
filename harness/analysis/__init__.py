"""Pure functions from measurements to estimates and verdicts."""

STATISTICS = 2
"""Which statistics a report was made by; stored in report.json.

It grows with whatever gives other figures or verdicts on the same measurements.

1: the first that reports did not name.
2: error_percent is of requests in on windows, with those of invalid trials; an upper bound where no
   program ran. Of switched arms, CPU from windows, with p and interval by the coins and what
   processes differ by pooled over arms; latency of requests that end in their window, by the coins;
   Holm over all services (docs/adr/0019, 0020, 0022).
"""
