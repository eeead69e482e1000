"""What the running kernel is asked and told: processes, cgroups, mounts, CPUs, ports, bpf(2)."""
