"""The run directory and the machine's certificate; `frames` reads a run as DataFrames."""

from harness.results.tables import Frames as Frames
from harness.results.tables import frames as frames
