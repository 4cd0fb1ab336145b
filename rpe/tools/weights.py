"""Make a small copy of a run for a repository: its config, and its weights in half precision."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from rpe.older_runs import with_todays_keys
from rpe.run.folder import checkpoint_of, provenance, read_checkpoint
from rpe.run_files import CONF, read_run, write_whole
from rpe.structures import UserError
from rpe.task.instance import CLASSES
from rpe.tools.command import read_arguments, run_tool

USAGE = """
Make a small copy of a run: config.yaml, and checkpoints/best.ckpt with the weights alone, in half precision.

    python -m rpe.tools.weights run=<run folder> output=weights/<name> command='python train.py ...'

predict.py run=..., evaluate.py run=... and train.py init_from=... take it as a run. README.md and made.yaml
tell its origin; `command` is the training's command, which they show.
"""

MAX_BYTES = 10**7
"""Bytes of a checkpoint that a repository may hold."""

MAX_RELATIVE_ERROR = 2.0**-11
"""The largest relative error of a number in half precision."""

MAX_ABSOLUTE_ERROR = 2.0**-25
"""The largest absolute error of a number too small for half precision."""


def main(arguments: list[str]) -> None:
    """Write the small copy.

    Raises:
        UserError: the folder holds no run, the checkpoint is too large, or half precision cannot hold the
            weights.
    """
    options = read_arguments(arguments, {"run": None, "output": None, "command": None}, USAGE)
    if missing := [key for key, value in options.items() if value is None]:
        raise UserError(
            f"run, output and command must be given, got no {', '.join(missing)}. "
            "Add run=<run folder>, "
            "output=<folder, such as weights/nuclei> and command='python train.py ...' of the training."
        )
    run, output = Path(str(options["run"])), Path(str(options["output"]))
    config, file = make_portable(read_run(str(run))), checkpoint_of(str(run))
    content = read_checkpoint(file)
    small = {name: to_half(name, values) for name, values in content["state_dict"].items()}
    kept = {"state_dict": small} | ({CLASSES: content[CLASSES]} if CLASSES in content else {})
    stream = io.BytesIO()
    torch.save(kept, stream)
    if len(stream.getvalue()) > MAX_BYTES:
        raise UserError(
            f"weights must take <= {MAX_BYTES:,} bytes, got {len(stream.getvalue()):,} of {run}. "
            "Train a smaller backbone."
        )
    (output / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_whole(output / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write_whole(output / "checkpoints" / "best.ckpt", stream.getvalue())
    made = describe_origin(run, config, content, str(options["command"]))
    write_whole(output / "made.yaml", yaml.safe_dump(made, sort_keys=False))
    write_whole(output / "README.md", format_readme(output.name, made))
    print(
        f"{output}: {len(stream.getvalue()):,} bytes, "
        f"{sum(values.numel() for values in small.values()):,} numbers"
    )


def to_half(name: str, values: Tensor) -> Tensor:
    """Return the numbers in half precision; integers stay as they are.

    Raises:
        UserError: half precision cannot hold them.
    """
    if not values.is_floating_point():
        return values.clone()
    half = values.half()
    error = (half.double() - values.double()).abs()
    if not bool((error <= values.double().abs() * MAX_RELATIVE_ERROR + MAX_ABSOLUTE_ERROR).all()):
        raise UserError(
            f"{name} must fit half precision, got {float(values.abs().max()):g}. Use the run folder itself."
        )
    return half.clone()


def make_portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config without this machine's paths: data lie where `conf/data` looks for them."""
    kept = json.loads(json.dumps(config))
    kept["resume"] = kept["init_from"] = None
    if "root" in kept["data"]:
        group = (
            yaml.safe_load((CONF / "data" / f"{kept['data']['name']}.yaml").read_text())
            if has_config(kept["data"]["name"])
            else {}
        )
        kept["data"]["root"] = group.get("root", "${oc.env:RPE_DATA_DIR,data}/" + str(kept["data"]["name"]))
    if kept["backbone"].get("weights") is not None:
        # the checkpoint holds them
        kept["backbone"]["weights"] = kept["backbone"]["weights"] and "checkpoint"
    return dict(kept)


def has_config(name: str) -> bool:
    """Return whether conf/data has an option of that name."""
    return (CONF / "data" / f"{name}.yaml").is_file()


def describe_origin(
    run: Path, config: dict[str, Any], content: dict[str, Any], training: str
) -> dict[str, Any]:
    """Return where the weights come from, and the metrics of their run."""
    file = run / "metrics.json"
    measured = (
        with_todays_keys(json.loads(file.read_text())) if file.is_file() else {"metrics": {}, "run": {}}
    )
    here = provenance({"data": None, **config}, "test", 0.0)
    of_run = {key: measured["run"].get(key) for key in ("commit", "config", "seconds", "split")}
    return {
        "command": training,
        "made small by": {
            "command": "python -m rpe.tools.weights run=<run> output=<this folder> command=<that>",
            "commit": here["commit"],
        },
        "run": of_run | {"epochs": int(content["epoch"]) + 1 if "epoch" in content else None},
        "metrics": {name: round(float(value), 4) for name, value in measured["metrics"].items()},
    }


def format_readme(name: str, made: dict[str, Any]) -> str:
    """Return the README of the copy."""
    rows = "".join(f"| {name} | {value:g} |\n" for name, value in made["metrics"].items())
    return (
        f"# {name}\n\nWeights of this run, in half precision; "
        f"`predict.py run=weights/{name} images=...` uses them.\n\n    {made['command']}\n\n"
        "Test metrics of the run, its weights in single precision:\n\n"
        f"| metric | value |\n|---|---|\n{rows}"
    )


if __name__ == "__main__":
    run_tool(main)
