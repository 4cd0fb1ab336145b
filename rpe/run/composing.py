"""A config as train.py composes it, where no door runs."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from rpe.run.folder import SOURCE
from rpe.structures import UserError


def composed(overrides: list[str]) -> DictConfig:
    """The training config with these overrides.

    Raises:
        UserError: an override that there is not.
    """
    before = HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(Path(SOURCE) / "conf"), version_base="1.3"):
            return compose("train", overrides)
    except HydraException as error:
        raise UserError(str(error).splitlines()[0]) from error
    finally:
        HydraConfig.instance().cfg = before
