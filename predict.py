"""Predict: `python predict.py run=<folder> images=<file, folder or pattern> output=<folder>`."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import rpe.run.predict


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent / "conf"), config_name="predict")
def main(config: DictConfig) -> None:
    """Predict on anybody's images."""
    rpe.run.predict.predict(config)


if __name__ == "__main__":
    rpe.run.enter(main)
