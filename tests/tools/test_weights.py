from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import evaluate
import train
from rpe.structures import UserError
from rpe.tools import weights

TINY = [
    "experiment=digits",
    "backbone.width=4",
    "backbone.levels=1",
    "trainer.max_epochs=0",
    "data.test_scenes=1",
    "data.val_scenes=2",
    "loss.pairwise.num_pixels=16",
]


def test_a_miniature_is_a_run_in_half_precision(command_line: Callable[..., None], tmp_path: Path) -> None:
    command_line(train.main, *TINY, f"hydra.run.dir={tmp_path / 'run'}")
    weights.main(
        [
            f"run={tmp_path / 'run'}",
            f"output={tmp_path / 'small'}",
            "command=python train.py backbone.width=4",
        ]
    )
    whole, small = (
        torch.load(file, weights_only=True)
        for file in (tmp_path / "run/checkpoints/last.ckpt", tmp_path / "small/checkpoints/best.ckpt")
    )
    assert set(small) == {"state_dict"} and {values.dtype for values in small["state_dict"].values()} == {
        torch.float16
    }
    for name, values in whole["state_dict"].items():
        assert torch.equal(small["state_dict"][name], values.half())
    made = yaml.safe_load((tmp_path / "small" / "made.yaml").read_text())
    assert made["command"] == "python train.py backbone.width=4" and "AR@10" in made["metrics"]
    assert str(tmp_path) not in "".join(file.read_text() for file in (tmp_path / "small").glob("*.*"))
    command_line(evaluate.main, f"run={tmp_path / 'small'}")
    command_line(train.main, *TINY, f"init_from={tmp_path / 'small'}", f"hydra.run.dir={tmp_path / 'second'}")
    after = torch.load(tmp_path / "second" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(after[name], values.float()) for name, values in small["state_dict"].items())


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run, output and command must be given, got no .*. Add run="):
        weights.main(["run=x"])
    with pytest.raises(UserError, match="a must fit half precision, got 70000"):
        weights.to_half("a", torch.tensor([1.0, 7e4]))
    assert weights.to_half("count", torch.tensor([3])).dtype == torch.int64


def test_no_path_of_the_machine_stays() -> None:
    config = {
        "data": {"name": "nuclei", "root": "/home/me/nuclei"},
        "backbone": {"weights": "/home/me/w.pt"},
        "resume": "/a",
        "init_from": "/b",
    }
    kept = weights.make_portable(config)
    assert (
        "/home" not in yaml.safe_dump(kept) and kept["data"]["root"] == "${oc.env:RPE_DATA_DIR,data}/nuclei"
    )
    assert (
        weights.make_portable({**config, "data": {"name": "mine", "root": "/x"}})["data"]["root"]
        == "${oc.env:RPE_DATA_DIR,data}/mine"
    )
    assert config["data"]["root"] == "/home/me/nuclei"


@pytest.mark.parametrize(
    "folder",
    sorted((Path(__file__).parent.parent.parent / "weights").glob("*/config.yaml")),
    ids=lambda file: file.parent.name,
)
def test_what_is_shipped_is_small_and_says_where_it_is_from(folder: Path) -> None:
    here = folder.parent
    assert (here / "checkpoints" / "best.ckpt").stat().st_size <= weights.MAX_BYTES
    assert (
        yaml.safe_load((here / "made.yaml").read_text())["command"].startswith("python train.py")
        and (here / "README.md").is_file()
    )
    root = yaml.safe_load(folder.read_text())["data"].get("root", "${}")
    assert root.startswith("${")
