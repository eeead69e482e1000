"""Pure functions from measurements to estimates and verdicts."""

STATISTICS = 3
"""Which statistics a report was made by; stored in report.json.

It grows with whatever gives other figures or verdicts on the same measurements.

1: the first that reports did not name.
2: error_percent is of requests in on windows, with those of invalid trials; an upper bound where no
   program ran. Of switched arms, CPU from windows, with p and interval by the coins and what
   processes differ by pooled over arms; latency of requests that end in their window, by the coins;
   Holm over all services (docs/adr/0019, 0020, 0022).
3: what processes differ by is pooled over arms of like size; counters of ticks have p and are
   widened; latency is corrected over a service's main route, and over its other routes; of a shared
   trial whose requests fail with one collector the windows without it are used (docs/adr/0024).
"""
