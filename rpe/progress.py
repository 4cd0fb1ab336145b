"""Show how many images are done, and how long the others will take."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 15.0
"""Seconds between two plain lines."""


def clock(seconds: float) -> str:
    """Return minutes and seconds, such as 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class ImageProgress:
    """The number of finished images: a bar with the time left on a terminal, plain lines elsewhere.

    Args:
        total: number of images; None shows nothing.
    """

    def __init__(self, total: int | None) -> None:
        self.total, self.done, self.start, self.last = total, 0.0, time.monotonic(), time.monotonic()
        self.bar: Progress | None = None
        if sys.stdout.isatty() and total:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=Console())

    def __enter__(self) -> "ImageProgress":
        if self.bar:
            self.bar.start()
            self.line = self.bar.add_task("images", total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, done: float, name: str = "images") -> None:
        """Show the number of finished images; a part of an image counts by its share."""
        self.done = done
        if self.bar:
            self.bar.update(self.line, completed=done, description=name)
        elif self.total and time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            left = (self.last - self.start) / done * (self.total - done)
            print(f"image {done:.1f}/{self.total} {name}, {clock(left)} left", flush=True)

    def advance(self) -> None:
        """Count one more image as done."""
        self.show(self.done + 1)
