"""Augmentation: labels move with the image, and all random numbers come from the given generator."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from torchvision import tv_tensors

import rpe.run
from rpe.data.augment import (
    NO_CHANCE,
    Augment,
    Chance,
    compute_extents,
    draw_start,
    parse_chance,
)
from rpe.data.coco import Coco, prepare_image
from rpe.structures import UserError

CONF = Path(__file__).parent.parent.parent / "conf"
OFF = dict(flip=0.0, flip_vertical=0.0, quarter_turn=0.0, rotation=None, scale=None)
GREY = dict(gamma=None, brightness=None, contrast=None, channels=None, invert=0.0)


def sure(low: float, high: float | None = None) -> dict[str, float]:
    return dict(probability=1.0, low=low, high=low if high is None else high)


def make(**change) -> Augment:
    return Augment(**(OFF | GREY | change))


def configured(*overrides: str) -> Coco:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = rpe.run.build_data(compose("train", ["data=coco", *overrides]))
    assert isinstance(data, Coco)
    return data


def scene(height: int = 120, width: int = 160) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Discs whose grey value is their id / 10 everywhere, so that image and labels tell on each other."""
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), dtype=np.int64)
    for number, (row, column, radius) in enumerate(
        [(30, 40, 18), (80, 60, 25), (50, 120, 22), (95, 130, 12)], start=1
    ):
        labels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = number
    image = torch.from_numpy(np.broadcast_to(labels / 10, (3, height, width)).astype(np.float32).copy())
    return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(labels))


def told(image: torch.Tensor) -> torch.Tensor:
    return (image[0] * 10).round().long()


def inner(ids: torch.Tensor) -> torch.Tensor:
    """Where all within three pixels has one label, so that interpolation mixes nothing."""
    near = (
        torch.nn.functional.pad(ids[None].double(), (3, 3, 3, 3), mode="replicate")
        .unfold(1, 7, 1)
        .unfold(2, 7, 1)[0]
        .flatten(2)
    )
    return near.amax(-1) == near.amin(-1)


@pytest.mark.parametrize(
    "change",
    [
        dict(flip=1.0),
        dict(flip_vertical=1.0),
        dict(quarter_turn=1.0),
        dict(rotation=sure(13.0)),
        dict(rotation=sure(-15.0), scale=sure(0.7)),
        dict(scale=sure(0.7)),
        dict(scale=sure(1.5)),
        dict(rotation=sure(15.0), scale=sure(1.5), flip=1.0, flip_vertical=1.0, quarter_turn=1.0),
    ],
    ids=str,
)
def test_labels_move_with_the_image(change: dict) -> None:
    augment, (image, labels) = make(**change), scene()
    for seed in range(8):
        moved, ids = augment(image, labels, 64, np.random.default_rng(seed))
        assert moved.shape == (3, 64, 64) and ids.shape == (64, 64) and ids.dtype == torch.int64
        sure_of = inner(ids)
        assert sure_of.float().mean() > 0.25 and torch.equal(told(moved)[sure_of], ids[sure_of].clamp(min=0))


def centre_and_area(labels: torch.Tensor, number: int) -> tuple[np.ndarray, float]:
    places = (labels == number).nonzero().double().numpy() + 0.5
    return places.mean(axis=0), len(places)


def test_rotation_and_scale_by_hand() -> None:
    """One disc in the middle and one beside it: areas grow by the square of the scale, directions turn by the angle."""
    labels = np.zeros((200, 200), dtype=np.int64)
    rows, columns = np.mgrid[:200, :200] + 0.5
    labels[(rows - 100) ** 2 + (columns - 100) ** 2 < 15**2] = 1
    labels[(rows - 100) ** 2 + (columns - 140) ** 2 < 15**2] = 2
    image = tv_tensors.Image(
        torch.from_numpy(np.broadcast_to(labels > 0, (3, 200, 200)).astype(np.float32).copy())
    )
    for angle, scale in ((15.0, 1.0), (-15.0, 0.7), (10.0, 1.5), (0.0, 1.3)):
        augment = make(rotation=sure(angle) if angle else None, scale=sure(scale))
        moved, ids = augment(
            image, tv_tensors.Mask(torch.from_numpy(labels)), int(190 * scale), np.random.default_rng(0)
        )
        places = np.stack(np.mgrid[: len(ids), : len(ids)], axis=-1) + 0.5
        bright = moved[0].numpy()[..., None]
        # half a pixel between image and labels would show; nearest neighbours that tie all go one way, up to a quarter
        assert (bright * places).sum((0, 1)) / bright.sum() == pytest.approx(
            places[ids.numpy() > 0].mean(0), abs=0.3
        )
        (one, area), (two, _) = centre_and_area(ids, 1), centre_and_area(ids, 2)
        assert area == pytest.approx(np.pi * 15**2 * scale**2, rel=0.03)
        # counter-clockwise on the screen, where rows count downwards
        wanted = 40 * scale * np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        assert two - one == pytest.approx(wanted, abs=0.6)


def test_the_same_generator_makes_the_same_sample_whatever_torch_draws(coco_folder: Path) -> None:
    data = configured(
        "augment=standard",
        f"data.root={coco_folder}",
        "data.crop=32",
        "data.num_workers=0",
        "data.longest_side=null",
    )
    train = data.dataset("train", training=True)
    first = train[0]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again, later = train[0], train[len(train)]
    assert (
        torch.equal(first[0], again[0])
        and torch.equal(first[1], again[1])
        and not torch.equal(first[0], later[0])
    )
    assert torch.equal(state, torch.get_rng_state()), "nothing is drawn from torch's global generator"
    batches = [
        next(
            iter(
                configured(
                    "augment=standard",
                    f"data.root={coco_folder}",
                    "data.crop=32",
                    f"data.num_workers={workers}",
                ).train_dataloader()
            )
        )
        for workers in (0, 1)
    ]
    assert torch.equal(batches[0].images, batches[1].images) and torch.equal(
        batches[0].labels, batches[1].labels
    )


def test_objects_that_vanish_are_gone_and_ids_are_dense() -> None:
    image, labels = scene()
    seen = set()
    for seed in range(60):
        augment = make(rotation=sure(-10.0, 10.0))
        _, ids, categories = prepare_image(
            image, labels, np.array([0, 10, 20, 30, 40]), None, 24, augment, np.random.default_rng(seed)
        )
        _, known = augment(image, labels, 24, np.random.default_rng(seed))
        assert torch.equal(categories[ids.clamp(min=0)], 10 * known.clamp(min=0).as_subclass(torch.Tensor)), (
            "each pixel keeps its class"
        )
        kept = categories[1:]
        present = [number for number in ids.unique().tolist() if number > 0]
        assert present == list(range(1, len(kept) + 1)) and set(kept.tolist()) <= {10, 20, 30, 40}
        seen.add(len(kept))
    assert len(seen) >= 3


def test_nothing_asked_for_is_a_plain_crop() -> None:
    image, labels = scene()
    moved, ids = make()(image, labels, 64, np.random.default_rng(3))
    patches = image.unfold(1, 64, 1).unfold(2, 64, 1)[0]
    assert (patches == moved[0]).all(-1).all(-1).any() and torch.equal(told(moved), ids)


@pytest.mark.parametrize(
    "change", [{}, dict(rotation=sure(12.0)), dict(scale=sure(0.7)), dict(scale=sure(1.5), flip=1.0)], ids=str
)
def test_outside_is_the_reflection_and_void(change: dict) -> None:
    image, labels = (
        tv_tensors.Image(torch.ones(3, 50, 60)),
        tv_tensors.Mask(torch.ones(50, 60, dtype=torch.int64)),
    )
    for seed in range(5):
        moved, ids = make(**change)(image, labels, 128, np.random.default_rng(seed))
        area = 3000 * change.get("scale", sure(1.0))["low"] ** 2
        assert int((ids == 1).sum()) == pytest.approx(area, rel=0.05) and set(ids.unique().tolist()) == {
            -1,
            1,
        }
        assert (moved > 0.999).all(), "no black anywhere"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (dict(gamma=sure(2.0)), lambda x: x**2),
        (dict(brightness=sure(1.5)), lambda x: (1.5 * x).clamp(0, 1)),
        (dict(contrast=sure(0.5)), lambda x: 0.5 * x + 0.5 * x.mean()),
        (dict(invert=1.0), lambda x: 1 - x),
        (dict(channels=sure(0.8)), lambda x: 0.8 * x),
    ],
)
def test_colours_by_hand(change: dict, wanted) -> None:
    grey = torch.linspace(0, 1, 64).reshape(1, 8, 8).expand(3, 8, 8).clone()
    labels = torch.zeros(8, 8, dtype=torch.int64)
    image, ids = make(**change)(grey, labels, 8, np.random.default_rng(0))
    # torchvision's grey is 0.2989 + 0.587 + 0.114 = 0.9999 of it
    assert torch.allclose(image.as_subclass(torch.Tensor), wanted(grey), atol=1e-4) and (ids == 0).all()


def test_channels_differ_and_bytes_become_shares() -> None:
    image, _ = make(channels=sure(0.8, 1.2))(
        torch.full((3, 8, 8), 100, dtype=torch.uint8),
        torch.zeros(8, 8, dtype=torch.int64),
        8,
        np.random.default_rng(0),
    )
    factors = (image[:, 0, 0] * 255 / 100).tolist()
    assert len(set(factors)) == 3 and all(0.8 <= factor <= 1.2 for factor in factors)


def test_probabilities_are_kept() -> None:
    augment, (image, labels) = make(flip=0.5, scale=dict(probability=0.7, low=0.7, high=1.5)), scene(64, 64)
    plain, flipped = 0, 0
    for seed in range(400):
        moved, _ = augment(image, labels, 64, np.random.default_rng(seed))
        same, mirrored = torch.equal(moved, image), torch.equal(moved, image.flip(-1))
        plain, flipped = plain + same, flipped + mirrored
    assert (plain + flipped) / 400 == pytest.approx(0.3, abs=0.07) and flipped / (
        plain + flipped
    ) == pytest.approx(0.5, abs=0.14)
    draws = [Chance(0.7, 0.8, 1.2).draw(np.random.default_rng(seed)) for seed in range(1000)]
    values = [value for value in draws if value is not None]
    assert len(values) / 1000 == pytest.approx(0.7, abs=0.05)
    assert min(values) < 0.82 and max(values) > 1.18 and np.mean(values) == pytest.approx(1.0, abs=0.02)


def test_a_square_lies_in_the_image_where_it_fits() -> None:
    random = np.random.default_rng(0)
    assert {draw_start(10, 8, random) for _ in range(100)} == {0, 1, 2}
    assert {draw_start(8, 10, random) for _ in range(100)} == {-2, -1, 0}
    assert compute_extents(64, 0.0, 1.0) == (64, 64, 64) and compute_extents(60, 0.0, 1.5) == (40, 40, 60)
    shown, window, resized = compute_extents(100, 15.0, 0.7)
    assert shown == 143 and window == 175 and resized == 122


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        (
            "scale",
            dict(probability=0.7, low=0.7),
            "augment.scale must have probability, low, high, got probability, low",
        ),
        (
            "scale",
            dict(probability=1.7, low=0.7, high=1.0),
            "augment.scale must have a probability in .0, 1., got 1.7",
        ),
        (
            "scale",
            dict(probability=0.7, low=1.7, high=1.0),
            "augment.scale must have 0 < low <= high, got 1.7 and 1",
        ),
        (
            "gamma",
            dict(probability=0.7, low=0.0, high=1.0),
            "augment.gamma must have 0 < low <= high, got 0 and 1",
        ),
    ],
)
def test_wrong_settings_are_named(name: str, setting: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**{name: setting})
    assert parse_chance(name, None, 0.0) == NO_CHANCE and NO_CHANCE.draw(np.random.default_rng(0)) is None


def test_the_group_reaches_the_training_samples_alone(coco_folder: Path) -> None:
    assert configured().augment is None
    for option in ("standard", "nuclei"):
        data = configured(f"augment={option}", f"data.root={coco_folder}")
        assert isinstance(data.augment, Augment) and isinstance(
            data.augment, get_class("rpe.data.augment.Augment")
        )
        assert (
            data.dataset("train", training=True).augment is data.augment
            and data.dataset("val").augment is None
        )
    standard = configured("augment=standard").augment
    assert (
        standard is not None
        and standard.flip == 0.5
        and standard.rotation == Chance(0.7, -15, 15)
        and standard.scale == Chance(0.7, 0.7, 1.5)
    )
    assert standard.channels == Chance(0.7, 0.8, 1.2) and standard.gamma.probability == 0.7


def test_shrinking_does_not_shift_the_labels() -> None:
    image, labels = scene(240, 320)
    for side in (300, 200, 128, 100):
        small, ids, _ = prepare_image(image, labels, np.arange(5), side, None, None, np.random.default_rng(0))
        shifts = [
            centre_and_area(ids, number)[0] * 320 / side - centre_and_area(labels, number)[0]
            for number in (1, 2, 3, 4)
        ]
        assert np.mean(shifts, axis=0) == pytest.approx([0, 0], abs=0.35)
        assert (told(small) != ids).float().mean() < 0.05
