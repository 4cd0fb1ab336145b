"""Evaluate: `python evaluate.py run=<folder> [split=val]`, or `predictions=<results.json> data=coco data.root=...`."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import rpe.run.evaluate


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent / "conf"), config_name="evaluate")
def main(config: DictConfig) -> None:
    """Evaluate a run or a results file."""
    rpe.run.evaluate.evaluate(config)


if __name__ == "__main__":
    rpe.run.enter(main)
