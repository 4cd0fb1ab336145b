"""`python -m rpe.tools.report sweep=<folder>`: the points of a sweep and their states, compared over seeds, as tables, plots and one page. Needs no torch."""

from rpe.tools.report.writing import main

__all__ = ["main"]
