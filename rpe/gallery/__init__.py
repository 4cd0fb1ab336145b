"""`python -m rpe.tools.gallery run=<folder>`: one page of a run or a prediction, whose objects light up."""

from rpe.tools.gallery.writing import main

__all__ = ["main"]
