"""A run directory becomes a page, Markdown, JSON and plots."""

import logging

# It says in front of every report that whoever has no home has no folder for its cache there.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
