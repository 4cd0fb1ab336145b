import pytest
import torch

from rpe.network.backbone import TimmPyramid
from rpe.structures import UserError

# one small member of each kind of encoder that differs in what it gives or takes: 0.3 to 4 million weights, no downloads
FAMILIES = {
    "test_resnet": [4, 8, 16, 32],  # a stage of stride 2 as well
    "test_convnext": [4, 8, 16, 32],  # none of stride 2: the stem
    "test_efficientnet": [4, 8, 16, 32],  # timm's own feature class
    "mobilenetv3_small_050": [4, 8, 16, 32],
    "mobilevitv2_050": [4, 8, 16, 32],  # unfolds patches of 2 x 2 cells
    "test_mambaout": [4, 8, 16, 32],  # channels last
    "test_vit": [4, 8, 16],  # all stages of one stride
    "xcit_nano_12_p8_224": [4, 8],
    "test_coatnet": [4, 8, 16, 32],  # takes one size: tiles
    "efficientvit_m0": [4, 8, 16, 32, 64],
    "pvt_v2_b0": [4, 8, 16, 32],
    "ghostnet_050": [4, 8, 16, 32],
}
SLOW = {
    "sedarknet21": [4, 8, 16],  # a stage of stride 1 as well
    "swin_tiny_patch4_window7_224": [4, 8, 16, 32],  # windows, channels last
    "maxvit_pico_rw_256": [4, 8, 16, 32],  # images of multiples of 256
    "eva02_tiny_patch14_224": [4, 8, 16],  # patches of 14
    "inception_v3": [4, 8, 16, 32],  # convolutions without padding
    "hrnet_w18_small": [4, 8, 16, 32],
    "levit_128s": [4, 8, 16, 32, 64],
    "crossvit_tiny_240": [4, 8, 16],  # patches of 12 and 16 pixels, of images that it resizes by itself
    "hiera_tiny_224": [4, 8, 16, 32],
    "sequencer2d_s": [4, 8, 16],  # patches of 7
    "mvitv2_tiny": [4, 8, 16, 32],  # takes any size up to its own
}
ALL = [pytest.param(model, strides, id=model) for model, strides in FAMILIES.items()] + [
    pytest.param(model, strides, id=model, marks=pytest.mark.slow) for model, strides in SLOW.items()
]


def pyramid(**options: object) -> TimmPyramid:
    defaults = {"weights": None, "norm_window": None, "frozen_norms": True, "frozen_stages": 0}
    return TimmPyramid(**(defaults | options))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:backbone.model")
@pytest.mark.parametrize(("model", "strides"), ALL)
def test_any_encoder_at_any_size(model: str, strides: list[int]) -> None:
    for stride, size in ((4, (64, 96)), (2, (37, 51))):
        torch.manual_seed(0)
        backbone = pyramid(model=model, stride=stride, width=16)
        maps = backbone(torch.rand(2, 3, *size))
        assert [feature.stride for feature in maps] == [here for here in [2, *strides] if here >= stride]
        assert [feature.values.shape[1] for feature in maps] == backbone.channels == [16] * len(maps)
        grids = {tuple(length * feature.stride for length in feature.values.shape[-2:]) for feature in maps}
        assert len(grids) == 1, "all maps cover one extent"
        assert all(
            0 <= pad_images - length < backbone.multiple
            for pad_images, length in zip(grids.pop(), size, strict=True)
        )
        assert all(feature.values.isfinite().all() for feature in maps)
        maps[0].values.square().mean().backward()
        gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
        assert len(gradients) > 0.6 * len(list(backbone.parameters())) and all(
            gradient.isfinite().all() for gradient in gradients
        )
        assert any(
            parameter.grad is not None and parameter.grad.any() for parameter in backbone.encoder.parameters()
        )


@pytest.mark.parametrize(
    ("model", "stride", "first"), [("test_convnext", 2, 0), ("test_vit", 4, 1), ("test_resnet", 2, None)]
)
def test_detail_comes_from_the_image_where_the_encoder_is_coarser(
    model: str, stride: int, first: int | None
) -> None:
    """`first` is the block of the stem whose map is the finest; one pixel moves the output, by way of the stem alone."""
    backbone = pyramid(model=model, stride=stride, width=16).eval()
    assert (len(backbone.stem.blocks) == 0) == (first is None)
    if first is None:
        return
    assert backbone.stem.strides[0] == stride == 2 ** (first + 1)
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    backbone.lateral[0](backbone.stem(images)[0]).sum().backward()
    assert (images.grad[0].abs().sum(0) > 0).all()


def test_images_are_normalised_as_the_model_expects_and_no_random_number_is_drawn_by_trying() -> None:
    torch.manual_seed(0)
    backbone = pyramid(model="test_vit", stride=4, width=8)
    after = torch.rand(1)
    torch.manual_seed(0)
    backbone.encoder.find_sizes("test_vit", 160)
    pyramid(model="test_vit", stride=4, width=8)
    assert torch.equal(after, torch.rand(1)) and backbone.training and backbone.encoder.network.training
    configuration = backbone.encoder.network.default_cfg
    assert tuple(backbone.mean.flatten().tolist()) == pytest.approx(configuration["mean"])
    assert tuple(backbone.std.flatten().tolist()) == pytest.approx(configuration["std"])
    seen: list[torch.Tensor] = []
    backbone.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone((backbone.mean + backbone.std).expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 32, 32))


def test_sizes_that_do_not_go_together_are_refused_before_they_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpe.network.backbone.encoder.Encoder.find_sizes", lambda *_: (299, 299))
    with pytest.raises(
        UserError, match="padded to a multiple of <= 1024 pixels, got test_resnet, which needs 9568"
    ):
        pyramid(model="test_resnet", stride=4, width=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet5"}, r"backbone\.model must be a timm model, got 'resnet5'\. Did you mean resnet5"),
        (
            {"model": "test_resnet.nowhere"},
            r"backbone\.model must have features, got test_resnet\.nowhere .*Invalid pretrained tag",
        ),
        ({"weights": "nowhere.pt"}, r"backbone\.weights must be .*, got nowhere\.pt, which is missing"),
        ({"stride": 1}, r"backbone\.stride must be 2 or 4, got 1\. For 1 use backbone=unet"),
        ({"stride": 8}, r"backbone\.stride must be 2 or 4, got 8"),
        ({"width": 0}, r"backbone\.width must be an integer >= 1, got 0"),
    ],
)
def test_wrong_timm_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        pyramid(**({"model": "test_resnet", "stride": 4, "width": 8} | options))
    assert "\n" not in str(refused.value)
