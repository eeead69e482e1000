"""A run directory becomes a page, Markdown, JSON and plots."""
