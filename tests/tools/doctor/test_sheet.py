"""The sheet shows masks beside images, and goes on after one that is refused."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rpe.data.bsds import BoundarySample
from rpe.data.module import Sample
from rpe.structures import UserError
from rpe.tools.doctor.sheet import describe_labels, draw_contact_sheet, draw_sample


def sample(void: bool = False) -> Sample:
    labels = torch.zeros(40, 60, dtype=torch.int64)
    labels[5:15, 5:25], labels[20:35, 30:50] = 1, 2
    if void:
        labels[:, 55:] = -1
    return Sample(torch.full((3, 40, 60), 0.5), labels, 1, (40, 60), torch.tensor([0, 1, 1]))


def test_a_panel_shows_the_image_and_its_masks() -> None:
    shown = draw_sample(sample(void=True))
    assert shown.shape == (40, 122, 3) and (shown[:, :60] == 128).all()
    masked = shown[:, 62:]
    assert (
        (masked[0, 0] == 128).all()
        and (masked[10, 10] != 128).any()
        and (masked[25, 40] != masked[10, 10]).any()
    )
    assert (masked[:, 55:] == 128).all() and (
        draw_sample(sample(void=True)._replace(image=torch.ones(3, 40, 60)))[0, -1] == 191
    ).all()
    assert describe_labels(sample()) == "2 objects"


def test_boundaries_are_bright_lines() -> None:
    boundary = BoundarySample(*sample()[:4], segments=torch.zeros(5, 40, 60, dtype=torch.int64), name="x")
    shown = draw_sample(boundary)[:, 62:]
    assert (
        (shown[10, 10] == (255, 220, 0)).all()
        and (shown[25, 40] == 64).all()
        and describe_labels(boundary) == "8.3% boundary"
    )


class Images:
    """Twenty samples, every third refused."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Sample:
        if index % 3 == 1:
            raise UserError("broken")
        return sample()


def test_the_sheet_is_a_picture(tmp_path: Path) -> None:
    draw_contact_sheet(Images(), [f"{number}.png" for number in range(20)], tmp_path / "sheet.png")
    pixels = np.array(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert pixels.shape[1] == 1500 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5
