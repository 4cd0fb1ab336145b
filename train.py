"""Train: `python train.py [experiment=digits] [group=option] [group.key=value]`; `-m` sweeps; `--help` lists groups and keys."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import rpe.run
import rpe.sweep


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent / "conf"), config_name="train")
def main(config: DictConfig) -> None:
    """Train the composed configuration."""
    rpe.sweep.train(config)


if __name__ == "__main__":
    rpe.run.enter(main)
