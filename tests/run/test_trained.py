import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from written_run import SMALL, write_run

import predict
import rpe
from rpe.grouping import mean_shift
from rpe.run.trained import load_run
from rpe.segment import Instances
from rpe.structures import UserError

WEIGHTS = Path(__file__).parent.parent.parent / "weights"


def test_a_run_is_read_back_with_its_weights(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", *SMALL, "embedding.dimension=3")
    config, task = load_run(str(run))
    assert config.embedding.dimension == 3 and not task.training
    state = torch.load(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert state.keys() == task.state_dict().keys() and all(
        torch.equal(state[name], value) for name, value in task.state_dict().items()
    )


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run must be a run folder, got none"):
        load_run(None)
    run = write_run(tmp_path / "run", *SMALL)
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(UserError, match="checkpoint must exist, got .* Name a run folder that has trained"):
        load_run(str(run))


def test_python_finds_what_the_command_writes(command_line: Callable[..., None], tmp_path: Path) -> None:
    coins = skimage.data.coins()  # 303 x 384 in 8 bits, bright on dark
    images = {
        "photograph": skimage.data.astronaut()[:120, :150],
        "deep": coins[:160, :200].astype(np.uint16) * 11,
        "mosaic": coins,
    }
    for name, pixels in images.items():
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / f"{name}.png")
    segmenter = rpe.load(WEIGHTS / "nuclei", device="cpu")
    for name, pixels in images.items():
        cut = ["tile=256", "overlap=64"] if name == "mosaic" else []
        if cut:
            segmenter.tile, segmenter.overlap = 256, 64
        command_line(
            predict.main,
            f"run={WEIGHTS / 'nuclei'}",
            f"images={tmp_path / name}",
            f"output={tmp_path / name / 'out'}",
            "device=cpu",
            *cut,
        )
        instances = segmenter(pixels)
        with (
            Image.open(tmp_path / name / "out" / "labels" / f"{name}.png") as labels,
            Image.open(tmp_path / name / "out" / "overlays" / f"{name}.png") as over,
        ):
            assert np.array_equal(np.array(labels), instances.labels), name
            assert np.array_equal(np.array(over), instances.overlay(segmenter.read(pixels))), name
    assert isinstance(instances, Instances) and len(instances) > 20


def test_a_run_of_boundaries_is_refused() -> None:
    with pytest.raises(
        UserError,
        match="run must be one that finds objects, got .*boundaries .BoundaryTask.. Use predict.py run=",
    ):
        rpe.load(WEIGHTS / "boundaries")


def test_the_package_is_imported_without_torch() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import rpe, sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False\n"
    assert rpe.mean_shift is mean_shift
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rpe.nothing  # noqa: B018
