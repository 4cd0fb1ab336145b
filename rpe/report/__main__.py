"""The command; the package says what it does."""

from rpe.command import command
from rpe.report import main

if __name__ == "__main__":
    command(main)
