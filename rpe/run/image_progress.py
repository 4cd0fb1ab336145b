"""Show how many images of a prediction are done, and how long the others will take."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from rpe.callbacks.progress import clock

LINE_SECONDS = 15.0
"""Seconds between two plain lines."""


class ImageProgress:
    """The number of finished images: a bar with the time left on a terminal, plain lines elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.start, self.last = total, time.monotonic(), time.monotonic()
        self.bar: Bar | None = None
        if sys.stdout.isatty() and total:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bar = Bar(*columns, console=Console())
            self.bar.start()
            self.line = self.bar.add_task("predicting", total=total)

    def show(self, done: float, name: str) -> None:
        """Show the number of finished images; a part of an image counts by its share."""
        if self.bar:
            self.bar.update(self.line, completed=done, description=name)
        elif time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            left = (self.last - self.start) / done * (self.total - done)
            print(f"image {done:.1f}/{self.total} {name}, {clock(left)} left", flush=True)

    def stop(self) -> None:
        """Restore the terminal."""
        if self.bar:
            self.bar.stop()
