"""Evaluate: `python evaluate.py run=<folder> [split=val]`, or `predictions=<results.json> data=coco ...`."""

import rpe.run
from rpe.tools.evaluate import main

if __name__ == "__main__":
    rpe.run.run_command(main)
