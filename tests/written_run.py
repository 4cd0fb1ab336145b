"""A run folder as an interrupted training leaves one: its config and the weights that it started with."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from rpe.run import build_task

CONF = Path(__file__).parent.parent / "conf"


def write_run(folder: Path, *overrides: str) -> Path:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides))
    OmegaConf.resolve(config)
    assert isinstance(config, DictConfig)
    (folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    torch.save({"state_dict": build_task(config).state_dict()}, folder / "checkpoints" / "last.ckpt")
    return folder


SMALL = (
    "experiment=digits",
    "backbone.width=4",
    "backbone.levels=2",
    "embedding.hidden=8",
    "head.hidden=8",
    "ranker=heuristic",
    "data.val_scenes=4",
)
"""A network of the digits that takes no time."""
