"""Run `python -m rpe.tools.gallery`."""

from rpe.tools.command import run_tool
from rpe.tools.gallery import main

if __name__ == "__main__":
    run_tool(main)
