"""The shipped sweep for wandb's agents: as far as it goes without a server, with the command line made by wandb's own code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tiny import tiny
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb.sdk.lib.config_util import save_config_file_from_dict
from wandb_files import wandb_files

ROOT = Path(__file__).parent.parent.parent
SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "wandb-sweep.yaml").read_text())
TINY = [*tiny(2, 1, 1), "trainer.max_epochs=1", "callbacks.pictures=null", "logger.wandb.mode=offline"]


def first_point() -> dict[str, dict[str, Any]]:
    """What an agent is told to run: the first value of each parameter."""
    return {name: {"value": parameter["values"][0]} for name, parameter in SWEEP["parameters"].items()}


def command_line() -> list[str]:
    """As `wandb agent` puts it together."""
    filled = create_sweep_command_args({"args": first_point()}) | {
        "program": [SWEEP["program"]],
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
    }
    line: list[str] = []
    for part in create_sweep_command(list(SWEEP["command"])):
        macro = part.startswith("${") and part.endswith("}")
        line += filled[part[2:-1]] if macro else [part]
    return line


def test_every_value_of_every_parameter_is_one_of_the_config() -> None:
    assert (
        (ROOT / SWEEP["program"]).is_file()
        and SWEEP["method"] == "grid"
        and SWEEP["metric"]["goal"] == "maximize"
    )
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for name, parameter in SWEEP["parameters"].items():
            for value in parameter["values"]:
                assert OmegaConf.select(compose("train", [f"{name}={value}"]), name) == value != []


@pytest.mark.slow
def test_the_agents_command_trains_in_the_agents_run(tmp_path: Path) -> None:
    line = command_line()
    assert line[:3] == ["/usr/bin/env", "python", "train.py"] and line[-3:] == [
        "loss.pairwise.margin=0.3",
        "embedding.dimension=3",
        "seed=0",
    ]
    assert not any("${" in part for part in line if not part.startswith("hydra.run.dir="))
    (tmp_path / "train.py").symlink_to(ROOT / "train.py")
    save_config_file_from_dict(str(tmp_path / "agent" / "config.yaml"), first_point())
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "WANDB_SWEEP_ID": "sweep123",
        "WANDB_RUN_ID": "run12345",
        "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "agent" / "config.yaml"),
        "WANDB_SILENT": "false",
    }
    done = subprocess.run(
        [*line, *TINY],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Ignoring" not in done.stderr + done.stdout, (
        "wandb says so of an id or a project that is not the agent's"
    )
    folder = tmp_path / "outputs" / "digits" / "wandb" / "run12345"
    assert (folder / "wandb_id").read_text() == "run12345\n" and (folder / "metrics.json").is_file()
    (run,) = wandb_files(tmp_path)
    assert run.id == "run12345" and run.sweep == "sweep123" and run.exit_code == 0 and run.group == ""
    assert (
        run.config["loss"]["pairwise"]["margin"] == run.config["loss.pairwise.margin"] == 0.3
        and run.config["embedding"]["dimension"] == 3
    )
    assert SWEEP["metric"]["name"] in run.summary and run.name.startswith(
        "loss.pairwise.margin=0.3 embedding.dimension=3 seed=0"
    )
