"""The command; the package says what it does."""

from rpe.tools.command import command
from rpe.tools.report import main

if __name__ == "__main__":
    command(main)
