"""Run `python -m rpe.tools.report`."""

from rpe.tools.command import run_tool
from rpe.tools.report import main

if __name__ == "__main__":
    run_tool(main)
