import pytest
import torch

from rpe.network.backbone import UNet
from rpe.structures import UserError


@pytest.mark.parametrize("stride", [1, 2])
def test_unet_pyramid_has_the_strides_and_channels_it_says(stride: int) -> None:
    backbone = UNet(width=8, levels=2, stride=stride, norm_window=None)
    maps = backbone(torch.rand(2, 3, 30, 21))
    assert [feature.stride for feature in maps] == [stride, 2 * stride, 4 * stride]
    assert [feature.values.shape[1] for feature in maps] == backbone.channels == [8, 16, 32]
    rows, columns = maps[0].values.shape[-2:]
    assert rows * stride >= 30 and columns * stride >= 21 and rows % 4 == columns % 4 == 0


def test_unet_sees_the_whole_image_and_learns_everywhere() -> None:
    backbone = UNet(width=8, levels=2, stride=1, norm_window=None)
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    backbone(images)[0].values[0, :, 8, 8].sum().backward()
    assert (images.grad.abs().sum(1) > 0).float().mean() > 0.9
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 4}, r"backbone\.stride must be 1 or 2, got 4\. For 4 use backbone=timm"),
        ({"stride": 0}, r"backbone\.stride must be an integer >= 1, got 0"),
        ({"width": 0}, r"backbone\.width must be an integer >= 1, got 0"),
        ({"norm_window": 0}, r"backbone\.norm_window must be an integer >= 1, got 0"),
        ({"levels": -1}, r"backbone\.levels must be an integer >= 0, got -1"),
    ],
)
def test_wrong_unet_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        UNet(**({"width": 8, "levels": 2, "stride": 1, "norm_window": None} | options))
