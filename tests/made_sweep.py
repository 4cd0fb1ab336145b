"""Sweep folders as train.py leaves them, without training: any number of points, some broken in each way there is."""

import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
FIGURES = ("AR@10", "AR@100", "AP50", "PQ", "ARI-modes")


@cache
def picture(seed: int, height: int = 120, width: int = 900) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 12, width // 12, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(stream, "PNG")
    return stream.getvalue()


def config_of(overrides: dict, whole: dict) -> dict:
    config = json.loads(json.dumps(whole))
    for key, value in overrides.items():
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    config["grouping"]["margin"] = config["loss"]["pairwise"]["margin"]
    config["task"]["seed"] = config["data"]["seed"] = config["seed"]
    return config


WHOLE = {
    **{
        "data": {"seed": 0, "batch_size": 4},
        "grouping": {"iterations": 1, "bandwidth": 0.3},
        "loss": {"pairwise": {"margin": 0.5, "num_pixels": 384}},
    },
    **{"task": {"seed": 0}, "embedding": {"dimension": 3}, "backbone": {"width": 32, "levels": 3}},
    **{
        f"group{number}": {f"key{index}": index for index in range(8)} for number in range(10)
    },  # about as long as a real one
}


def score(overrides: dict) -> float:
    """Best at dimension 8, then at margin 0.5; seeds differ by 0.01."""
    return (
        0.5
        - 0.01 * abs(overrides["embedding.dimension"] - 8)
        - 0.1 * abs(overrides["loss.pairwise.margin"] - 0.5)
        + 0.01 * overrides["seed"]
    )


def write_point(folder: Path, overrides: dict, epochs: int = 5, pictures: int = 2) -> None:
    """A finished point."""
    (folder / "pictures").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        yaml.dump(config_of(overrides, WHOLE), Dumper=DUMPER, sort_keys=False)
    )
    rows = [
        f"{epoch},{epoch * 9},{1 / (epoch + 1)},{score(overrides) * epoch / epochs}"
        for epoch in range(epochs)
    ]
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,train/loss,val/AR@10", *rows]) + "\n")
    for number in range(pictures):
        (folder / "pictures" / f"val-{number}.png").write_bytes(picture(number))
    metrics = {"metrics": dict.fromkeys(FIGURES, score(overrides)), "run": {"seconds": 12.5}}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def failed(folder: Path) -> None:
    without(folder, "metrics.json")
    (folder / "error.txt").write_text("Traceback\nValueError: no such loss\n")


BREAKS = {
    "empty json": (
        lambda folder: (folder / "metrics.json").write_text(""),
        "metrics.json must be JSON, got an empty file",
    ),
    "torn json": (
        lambda folder: (folder / "metrics.json").write_text('{"metrics": {"AR@10": 0.'),
        "metrics.json must be JSON, got",
    ),
    "binary json": (
        lambda folder: (folder / "metrics.json").write_bytes(b"\x80\xff\x00"),
        "metrics.json must be JSON, got",
    ),
    "json list": (
        lambda folder: (folder / "metrics.json").write_text("[1]"),
        "metrics.json must hold metrics",
    ),
    "no figures": (
        lambda folder: (folder / "metrics.json").write_text('{"run": {}}'),
        "metrics.json must hold metrics",
    ),
    "text as figure": (
        lambda folder: (folder / "metrics.json").write_text('{"metrics": {"AR@10": "x"}}'),
        "AR@10 in metrics.json must be a number, got 'x'",
    ),
    "NaN figure": (
        lambda folder: (folder / "metrics.json").write_text('{"metrics": {"AR@10": NaN}, "run": 3}'),
        "metrics.json: AR@10 is nan",
    ),
    "yaml garbage": (
        lambda folder: (folder / "config.yaml").write_text("a: [\x00"),
        "config.yaml must be as train.py wrote it, got invalid YAML",
    ),
    "yaml text": (
        lambda folder: (folder / "config.yaml").write_text("text"),
        "config.yaml must be as train.py wrote it, got no settings",
    ),
    "endless number": (
        lambda folder: (folder / "metrics.json").write_text(f'{{"metrics": {{"AR@10": {10**400}}}}}'),
        "too large",
    ),
    "resumed garbage": (
        lambda folder: (folder / "resumed.yaml").write_text("a: ["),
        "resumed.yaml must be as train.py wrote it, got invalid YAML",
    ),
    "resumed of another": (
        lambda folder: (folder / "resumed.yaml").write_text("seed.x.y: 1"),
        "resumed.yaml does not fit config.yaml",
    ),
    "torn csv": (
        lambda folder: (folder / "metrics.csv").write_text("epoch,step,train/loss\n0,9,0.5\n1,1"),
        "metrics.csv: row 2 has 2 of 3 columns",
    ),
    "csv of text": (
        lambda folder: (folder / "metrics.csv").write_text("epoch,step\nx,y\n"),
        "metrics.csv cannot be read after row 0",
    ),
    "binary csv": (
        lambda folder: (folder / "metrics.csv").write_bytes(b"\xff\x00\x80"),
        "metrics.csv cannot be read after row 0",
    ),
    "no picture": (
        lambda folder: (folder / "pictures" / "val-0.png").write_bytes(b"\x00\x01garbage"),
        "pictures/val-0.png is not a picture",
    ),
}
"""What is done to a finished point, and what the report must say of it."""


def write_sweep(folder: Path, points: int, listed: bool = True) -> dict[str, str]:
    """A sweep over dimension, margin and seed; every 12th point is broken in turn, others failed, running or pending.

    Returns what must be said of each point that is not simply finished.
    """
    said: dict[str, str] = {}
    listing: dict[str, dict] = {}
    grid = [
        (dimension, margin, seed)
        for dimension in (2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
        for margin in (0.1, 0.3, 0.5, 0.7)
        for seed in range(5)
    ]
    breaks = list(BREAKS.items())
    for number, (dimension, margin, seed) in enumerate(grid[:points]):
        overrides = {
            "experiment": "digits",
            "embedding.dimension": dimension,
            "loss.pairwise.margin": margin,
            "seed": seed,
        }
        name = f"dimension-{dimension}_margin-{margin}_seed-{seed}"
        listing[name] = overrides
        kind = number % 12
        if kind == 3 and listed:
            said[name] = ""
            continue
        write_point(folder / name, overrides)
        if kind == 0:
            _, (harm, words) = breaks[number // 12 % len(breaks)]
            harm(folder / name)
            said[name] = words
        elif kind == 1:
            failed(folder / name)
            said[name] = "ValueError: no such loss"
        elif kind == 2:
            without(folder / name, "metrics.json")
            said[name] = "5 epochs; last wrote "
    if listed:
        (folder / "sweep.yaml").write_text(
            yaml.safe_dump({"commands": ["python train.py -m sweep=made"], "jobs": listing}, sort_keys=False)
        )
    return said
