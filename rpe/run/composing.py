"""Compose train.py's config outside of a Hydra command."""

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from rpe.errors import UserError
from rpe.older_runs import todays_override
from rpe.run_files import CONF


def compose_config(overrides: list[str], hydra: bool = False) -> DictConfig:
    """Return the training config with these overrides.

    Args:
        overrides: of the command line.
        hydra: keep Hydra's own part.

    Raises:
        UserError: an override is unknown.
    """
    overrides = [todays_override(override) for override in overrides]
    before = HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", overrides, return_hydra_config=hydra)
    except HydraException as error:
        raise UserError(str(error).splitlines()[0]) from error
    finally:
        HydraConfig.instance().cfg = before


def compose_jobs(overrides: list[str]) -> dict[str, DictConfig]:
    """Return the training config of each job of a sweep, by its overrides.

    Args:
        overrides: commas separate the values of a key; `sweep=` adds its own.

    Raises:
        UserError: an override is unknown.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        fixed = [
            text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()
        ]
        preset = compose_config(fixed, hydra=True).hydra.sweeper.params or {}
        every = OverridesParser.create().parse_overrides(
            [*(f"{key}={value}" for key, value in preset.items()), *overrides]
        )
        (jobs,) = BasicSweeper.split_arguments(every, None)
    except HydraException as error:
        raise UserError(str(error).splitlines()[0]) from error
    return {" ".join(job): compose_config(job) for job in jobs}
