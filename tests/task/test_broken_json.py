"""Annotation and results files that are broken in thousands of ways: a line for the user or figures, never a stack trace, never a hang."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from miniature import polygon, uncompressed
from mutated import broken
from PIL import Image

from rpe.data.coco import Coco
from rpe.rle import encode_mask
from rpe.structures import UserError
from rpe.task.base import Scoring
from rpe.task.instance import InstanceTask
from rpe.task.semantic import SemanticTask

INPUTS = 4000
"""Of each kind."""

SECONDS = 10
"""For one input."""


@pytest.fixture
def in_time() -> Iterator[Callable[[], None]]:
    """Give the next input its time."""

    def late(*_: object) -> None:
        raise AssertionError(f"an input takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS)  # type: ignore[func-returns-value]
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def small_truth() -> dict:
    """Two images with polygons, run lengths of both kinds, a crowd, and two categories of one name."""
    box = np.zeros((12, 16), dtype=bool)
    box[2:8, 3:9] = True
    codes = [
        polygon(1, 1, 6, 8),
        uncompressed(box),
        encode_mask(box),
        encode_mask(~box),
        polygon(3, 4, 5, 6) + polygon(0, 0, 2, 3),
    ]
    annotations = [
        {
            "id": 1 + k,
            "image_id": 1 + k % 2,
            "category_id": 1 + k % 2,
            "segmentation": code,
            "area": 30.0,
            "bbox": [0, 0, 1, 1],
            "iscrowd": int(k == 3),
        }
        for k, code in enumerate(codes)
    ]
    images = [
        {"id": 1 + k, "file_name": name, "height": 12, "width": 16}
        for k, name in enumerate(("é.png", "b.png"))
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "cell"}],
    }


def small_results() -> list[dict]:
    box = np.zeros((12, 16), dtype=bool)
    box[1:7, 1:9] = True
    return [
        {"image_id": 1 + k % 2, "category_id": 1 + k // 2, "segmentation": code, "score": 0.9 - 0.1 * k}
        | ({"file_name": ("é.png", "b.png")[k % 2]} if named else {})
        for k, (code, named) in enumerate(
            (
                (encode_mask(box), True),
                (uncompressed(box), True),
                (encode_mask(~box), True),
                (encode_mask(box), True),
            )
        )
    ]


def write_set(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).mkdir()
        for name in ("é.png", "b.png"):
            Image.new("RGB", (16, 12)).save(root / split / name)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(small_truth()))
    return root


def coco(root: Path) -> Coco:
    return Coco(
        name="coco",
        root=str(root),
        batch_size=1,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
        longest_side=None,
        crop=8,
        train_categories=["cell"],
        eval_categories=None,
        augment=None,
        empty_masks="skip",
        percentile_range=None,
        cache=False,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("seed", range(2))
def test_annotation_files(tmp_path: Path, in_time: Callable[[], None], seed: int) -> None:
    root, random, passed = write_set(tmp_path / "set"), np.random.default_rng(seed), 0
    (tmp_path / "results.json").write_text(json.dumps(small_results()))
    for number in range(INPUTS):
        text = broken(small_truth(), random)
        for split in ("train", "val"):
            (root / "annotations" / f"instances_{split}.json").write_bytes(text)
        in_time()
        try:
            data = coco(root)
            dataset = data.dataset("train", training=True)
            for index in range(len(dataset)):
                dataset[index]
            InstanceTask.score(
                data, "val", tmp_path / "results.json", tmp_path, None, Scoring("own", 0.5, None)
            )
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 700, str(error)
        except Exception as error:
            raise AssertionError(f"input {number} of seed {seed}: {text!r}") from error
        else:
            passed += 1
    assert passed > INPUTS / 20, "most changes do harm, not all"


@pytest.mark.slow
@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("task", [InstanceTask, SemanticTask])
def test_results_files(tmp_path: Path, in_time: Callable[[], None], task: type[InstanceTask]) -> None:
    root, random, passed = write_set(tmp_path / "set"), np.random.default_rng(2), 0
    data = coco(root)
    for number in range(INPUTS):
        text = broken(small_results(), random)
        (tmp_path / "results.json").write_bytes(text)
        in_time()
        try:
            task.score(
                data,
                "val",
                tmp_path / "results.json",
                tmp_path,
                None if number % 3 else ["é"],
                Scoring("own", 0.5, None),
            ).notes()
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 700, str(error)
        except Exception as error:
            raise AssertionError(f"input {number}: {text!r}") from error
        else:
            passed += 1
    assert passed > INPUTS / 20, "most changes do harm, not all"
