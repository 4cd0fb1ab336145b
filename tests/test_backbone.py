from pathlib import Path

import pytest
import torch

from rpe.backbone import TimmPyramid, UNet
from rpe.structures import InputError


@pytest.mark.parametrize("stride", [1, 2])
def test_unet_pyramid_has_the_strides_and_channels_it_says(stride: int) -> None:
    backbone = UNet(width=8, levels=2, stride=stride)
    maps = backbone(torch.rand(2, 3, 30, 21))
    assert [feature.stride for feature in maps] == [stride, 2 * stride, 4 * stride]
    assert [feature.values.shape[1] for feature in maps] == backbone.channels == [8, 16, 32]
    rows, columns = maps[0].values.shape[-2:]
    assert rows * stride >= 30 and columns * stride >= 21 and rows % 4 == columns % 4 == 0


def test_unet_sees_the_whole_image_and_learns_everywhere() -> None:
    backbone = UNet(width=8, levels=2, stride=1)
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    backbone(images)[0].values[0, :, 8, 8].sum().backward()
    assert (images.grad.abs().sum(1) > 0).float().mean() > 0.9
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize("stride", [2, 4])
def test_timm_pyramid(stride: int) -> None:
    backbone = TimmPyramid(model="resnet18", weights=None, stride=stride, width=16)
    maps = backbone(torch.rand(1, 3, 50, 70))
    assert maps[0].stride == stride and maps[0].values.shape == (1, 16, 64 // stride, 96 // stride)


def test_timm_weights_from_a_file(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    whole = timm.create_model("resnet18")
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    backbone = TimmPyramid(model="resnet18", weights=str(tmp_path / "weights.pt"), stride=4, width=8)
    assert torch.equal(backbone.encoder.state_dict()["layer3.0.conv1.weight"], whole.state_dict()["layer3.0.conv1.weight"])
    torch.save(timm.create_model("resnet34").state_dict() | {"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"are of another model: conv1\.weight"):
        TimmPyramid(model="resnet18", weights=str(tmp_path / "other.pt"), stride=4, width=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet5"}, "'resnet5' is not a timm model: did you mean"),
        ({"weights": "nowhere.pt"}, "backbone.weights nowhere.pt does not exist"),
        ({"stride": 3}, r"backbone.stride 3: resnet18 has stages of stride \[2, 4, 8, 16, 32\]"),
    ],
)
def test_wrong_timm_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TimmPyramid(**({"model": "resnet18", "weights": None, "stride": 4, "width": 8} | options))


def test_wrong_unet_stride() -> None:
    with pytest.raises(InputError, match=r"backbone\.stride 4"):
        UNet(width=8, levels=2, stride=4)
