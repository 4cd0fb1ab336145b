"""Show a run or a prediction on one page, where objects light up under the mouse."""

from rpe.tools.gallery.writing import main

__all__ = ["main"]
