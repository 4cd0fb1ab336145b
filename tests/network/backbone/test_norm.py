import pytest
import torch
from torch import nn

from rpe.network.backbone import TimmPyramid, UNet
from rpe.network.backbone.norm import GroupNorm, window_mean


def with_random_weights(norm: nn.GroupNorm) -> nn.GroupNorm:
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.eval()


def test_a_map_of_the_windows_size_is_normalised_as_by_torch() -> None:
    norm = with_random_weights(GroupNorm(2, 6, 8))
    plain = nn.GroupNorm(2, 6)
    plain.load_state_dict(norm.state_dict())
    values = 3 + torch.randn(2, 6, 8, 7)
    torch.testing.assert_close(norm(values), plain(values), atol=1e-5, rtol=1e-5)
    larger = torch.randn(2, 6, 20, 20)
    assert not torch.allclose(norm(larger), plain(larger), atol=1e-2)
    assert torch.equal(norm.train()(larger), plain(larger)), "training takes the whole crop"


def test_each_position_is_normalised_by_the_window_around_it() -> None:
    norm = with_random_weights(GroupNorm(1, 4, 6))
    values = 100 + torch.randn(1, 4, 15, 18)
    found = norm(values)
    plain = nn.GroupNorm(1, 4)
    plain.load_state_dict(norm.state_dict())
    for row, column, top, left in ((7, 9, 4, 6), (0, 17, 0, 12), (14, 0, 9, 0)):
        window = plain(values[..., top : top + 6, left : left + 6])
        torch.testing.assert_close(
            found[..., row, column], window[..., row - top, column - left], atol=1e-4, rtol=1e-4
        )


def test_a_position_does_not_depend_on_what_lies_beyond_its_window() -> None:
    norm = with_random_weights(GroupNorm(1, 4, 6))
    values = torch.randn(1, 4, 6, 30)
    changed = values.clone()
    changed[..., 15:] *= 10
    near, far = (norm(changed) - norm(values)).abs().amax((0, 1, 2)).split([12, 18])
    assert near.max() < 1e-5 and far.max() > 0.1


@pytest.mark.parametrize("backbone", ["unet", "timm"])
@torch.no_grad()
def test_with_a_window_a_large_image_has_the_features_of_its_parts(backbone: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 96, 448)
    images[..., 320:] *= 0.1
    difference = []
    for window in (None, 32):
        torch.manual_seed(1)
        network = (
            UNet(width=8, levels=2, stride=1, norm_window=window)
            if backbone == "unet"
            else TimmPyramid("test_convnext", None, 2, 16, window, frozen_norms=True, frozen_stages=0)
        ).eval()
        whole, part = network(images)[0].values, network(images[..., :320])[0].values
        difference.append(float((whole[..., :64] - part[..., :64]).abs().max()))
    assert difference[0] > 0.05 and difference[1] < 0.01 * difference[0]


def test_the_mean_of_a_window_is_exact_far_from_zero() -> None:
    values = 1e4 + torch.rand(3, 40, 50)
    wanted = nn.functional.avg_pool2d(values.double(), 5, 1)
    torch.testing.assert_close(window_mean(values, 5)[:, 2:-2, 2:-2].double(), wanted, atol=2e-3, rtol=0)


def test_half_precision_is_computed_in_single() -> None:
    norm = with_random_weights(GroupNorm(2, 6, 8))
    plain = nn.GroupNorm(2, 6)
    plain.load_state_dict(norm.state_dict())
    values = (20 + torch.randn(1, 6, 8, 8)).bfloat16()
    found = norm(values)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(values.float()), atol=1e-2, rtol=1e-2)
