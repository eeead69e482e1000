"""The size of machine for which the memory of maps is stated beside what was measured."""

MANY_CPUS = 96
