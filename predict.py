"""Predict: `python predict.py run=<folder> images=<file, folder or pattern> output=<folder>`."""

import rpe.run
from rpe.tools.predict import main

if __name__ == "__main__":
    rpe.run.run_command(main)
