from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import rpe.run
from rpe.data.module import Sample
from rpe.structures import UserError
from rpe.tools.gallery.__main__ import main
from rpe.tools.gallery.examples import find_indices, show_examples

TINY = [
    "experiment=digits",
    "backbone.width=8",
    "backbone.levels=2",
    "data.train_scenes=4",
    "data.val_scenes=3",
    "data.test_scenes=3",
    "embedding.dimension=3",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped before its first step."""
    folder = tmp_path_factory.mktemp("run")
    with initialize_config_dir(str(Path(__file__).parent.parent.parent.parent / "conf"), version_base="1.3"):
        # so that untrained embeddings yield objects
        config = compose(
            "train",
            [
                *TINY,
                "proposal.foreground_thresholds=[0.01]",
                "proposal.score_threshold=0",
                "grouping.iterations=2",
            ],
        )
    torch.manual_seed(0)
    task = rpe.run.build_task(config)
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": task.state_dict(), "epoch": 0}, folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config, resolve=True)))
    return folder


def test_image_truth_every_loop_and_instances(run: Path) -> None:
    found = show_examples(str(run), 2, "val", [])
    assert found is not None and len(found) == 2
    for shown in found:
        assert [title for title, _ in shown.panels] == ["image", "truth", "X_0", "X_1", "X_2", "instances"]
        assert shown.objects and "score" in shown.objects[0].words and "true objects" in shown.note
    # the loops move the points
    panels = dict(found[0].panels)
    assert panels["X_0"] != panels["X_1"] != panels["X_2"]


def test_the_page_of_a_run(run: Path) -> None:
    assert main([f"run={run}", "images=1"]) == 0
    page = (run / "gallery.html").read_text()
    assert (
        page.count("<section>") == 1
        and page.count("data:image/png") == 6
        and "<path d=" in page
        and "X_2" in page
    )


def test_a_run_that_groups_nothing_has_no_examples(tmp_path: Path) -> None:
    with initialize_config_dir(str(Path(__file__).parent.parent.parent.parent / "conf"), version_base="1.3"):
        config = compose("train", ["experiment=bsds_scratch", f"data.root={tmp_path}"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config, resolve=True)))
    assert show_examples(str(tmp_path), 2, "val", []) is None


class Scattered:
    """A data set as COCO's: its truth is in the order of the file, its items in that of the ids."""

    classes: ClassVar[dict[int, str]] = {}

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def truth(self) -> dict:
        return {"images": [{"id": 30}, {"id": 10}, {"id": 20}]}


def test_images_are_found_by_id() -> None:
    assert find_indices(Scattered(), [20, 30]) == [1, 2]
    with pytest.raises(UserError, match="order must name images of the run's own data, got image 5"):
        find_indices(Scattered(), [5])
