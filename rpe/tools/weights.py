"""A run in miniature: `python -m rpe.tools.weights run=<run folder> output=weights/<name>`; its config and its weights in half precision."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from rpe.run.folder import checkpoint_of, provenance, read_checkpoint
from rpe.run_files import CONF, read_run, write_whole
from rpe.structures import UserError
from rpe.task.instance import CLASSES
from rpe.tools.command import command, read_arguments

USAGE = """
Make a run folder in miniature of a run: config.yaml and checkpoints/best.ckpt, which holds the weights alone, in half precision.

    python -m rpe.tools.weights run=<run folder> output=weights/<name> command='python train.py experiment=...'

predict.py run=..., evaluate.py run=... and train.py init=... take it as they take a run. README.md and made.yaml say what it was made of; `command` is the
training's, for them.
"""

LARGEST = 10**7
"""Bytes of a checkpoint that a repository may hold."""

ROUNDING = 2.0**-11
"""The largest relative error of a number that half precision can hold."""

SMALLEST = 2.0**-25
"""The largest absolute error of one that is too small for it."""


def main(arguments: list[str]) -> None:
    """Write the miniature.

    Raises:
        UserError: no run, one that is too large, or weights that half precision cannot hold.
    """
    options = read_arguments(arguments, {"run": None, "output": None, "command": None}, USAGE)
    if None in options.values():
        raise UserError(
            "weights needs run=<run folder>, output=<folder, such as weights/nuclei> and command='python train.py ...', which made the run"
        )
    run, output = Path(str(options["run"])), Path(str(options["output"]))
    config, file = portable(read_run(str(run))), checkpoint_of(str(run))
    content = read_checkpoint(file)
    small = {name: halved(name, values) for name, values in content["state_dict"].items()}
    kept = {"state_dict": small} | ({CLASSES: content[CLASSES]} if CLASSES in content else {})
    stream = io.BytesIO()
    torch.save(kept, stream)
    if len(stream.getvalue()) > LARGEST:
        raise UserError(
            f"the weights of {run} take {len(stream.getvalue()):,} bytes, more than {LARGEST:,}: train a smaller backbone"
        )
    (output / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_whole(output / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write_whole(output / "checkpoints" / "best.ckpt", stream.getvalue())
    made = made_of(run, config, content, str(options["command"]))
    write_whole(output / "made.yaml", yaml.safe_dump(made, sort_keys=False))
    write_whole(output / "README.md", readme_of(output.name, made))
    print(
        f"{output}: {len(stream.getvalue()):,} bytes, {sum(values.numel() for values in small.values()):,} numbers"
    )


def halved(name: str, values: Tensor) -> Tensor:
    """The numbers in half precision; whole numbers stay as they are.

    Raises:
        UserError: half precision cannot hold them.
    """
    if not values.is_floating_point():
        return values.clone()
    half = values.half()
    error = (half.double() - values.double()).abs()
    if not bool((error <= values.double().abs() * ROUNDING + SMALLEST).all()):
        raise UserError(f"{name} holds numbers that half precision cannot: {float(values.abs().max()):g}")
    return half.clone()


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without this machine's paths: data lie where `conf/data` looks for them, nothing is fetched, nothing goes on."""
    kept = json.loads(json.dumps(config))
    kept["resume"] = kept["init_from"] = None
    if "root" in kept["data"]:
        group = (
            yaml.safe_load((CONF / "data" / f"{kept['data']['name']}.yaml").read_text())
            if known(kept["data"]["name"])
            else {}
        )
        kept["data"]["root"] = group.get("root", "${oc.env:RPE_DATA_DIR,data}/" + str(kept["data"]["name"]))
    if kept["backbone"].get("weights") is not None:
        kept["backbone"]["weights"] = (
            kept["backbone"]["weights"] and "checkpoint"
        )  # the checkpoint brings them
    return dict(kept)


def known(name: str) -> bool:
    """Whether there is a YAML for these data."""
    return (CONF / "data" / f"{name}.yaml").is_file()


def made_of(run: Path, config: dict[str, Any], content: dict[str, Any], training: str) -> dict[str, Any]:
    """Where the weights are from, and what they reached."""
    file = run / "metrics.json"
    measured = json.loads(file.read_text()) if file.is_file() else {"figures": {}, "run": {}}
    here = provenance({"data": None, **config}, "test", 0.0)
    of_run = {key: measured["run"].get(key) for key in ("commit", "config", "seconds", "split")}
    return {
        "command": training,
        "made small by": {
            "command": "python -m rpe.tools.weights run=<run> output=<this folder> command=<that>",
            "commit": here["commit"],
        },
        "run": of_run | {"epochs": int(content["epoch"]) + 1 if "epoch" in content else None},
        "figures": {name: round(float(value), 4) for name, value in measured["figures"].items()},
    }


def readme_of(name: str, made: dict[str, Any]) -> str:
    """What a person reads first."""
    rows = "".join(f"| {figure} | {value:g} |\n" for figure, value in made["figures"].items())
    return (
        f"# {name}\n\nWeights of this run, in half precision; `predict.py run=weights/{name} images=...` uses them.\n\n"
        f"    {made['command']}\n\nTest figures of the run, its weights in single precision:\n\n| figure | value |\n|---|---|\n{rows}"
    )


if __name__ == "__main__":
    command(main)
