from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from rpe.network.backbone.encoder import Encoder, join_tiles, load_backbone_weights, split_into_tiles
from rpe.structures import UserError


def test_the_stages_are_timms_own() -> None:
    torch.manual_seed(0)
    encoder = Encoder("test_mambaout", None).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        stages, expected = encoder(images), encoder.network(images)
    assert encoder.channels_last and encoder.multiple == 32 and encoder.tile is None
    for stage, channels, stride, other in zip(
        stages, encoder.channels, encoder.strides, expected, strict=True
    ):
        assert stage.shape == (1, channels, 64 // stride, 96 // stride) and torch.equal(
            stage.permute(0, 2, 3, 1), other
        )


def test_a_vision_transformer_sees_the_whole_image() -> None:
    encoder = Encoder("test_vit", None)
    images = torch.rand(1, 3, 48, 64, requires_grad=True)
    encoder(images)[-1][0, :, 0, 0].sum().backward()
    assert encoder.tile is None and (images.grad[0].abs().sum(0) > 0).all()


def test_a_model_of_one_size_is_given_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    encoder = Encoder("test_coatnet", None).eval()
    assert "warning: backbone.model test_coatnet accepts only images of 160 x 160" in capsys.readouterr().err
    assert encoder.tile == encoder.multiple == 160
    images = torch.rand(2, 3, 160, 320)
    with torch.no_grad():
        whole, left, right = (
            encoder(images),
            encoder.network(images[..., :160]),
            encoder.network(images[..., 160:]),
        )
    for stage, one, other in zip(whole, left, right, strict=True):
        torch.testing.assert_close(stage, torch.cat([one, other], 3), rtol=1e-4, atol=1e-5)


def test_tiles_come_back_where_they_were() -> None:
    images = torch.rand(2, 3, 4, 6)
    tiles = split_into_tiles(images, (2, 3))
    assert (
        tiles.shape == (12, 3, 2, 2)
        and torch.equal(tiles[1], images[0, :, :2, 2:4])
        and torch.equal(tiles[9], images[1, :, 2:, :2])
    )
    assert torch.equal(join_tiles(tiles, (2, 3)), images)


class Fake(nn.Module):
    """One stage of stride 8, or of `shape` whatever the image; refuses images longer than `longest` or not in multiples of `window`."""

    def __init__(self, shape: tuple[int, ...] | None = None, longest: int = 1000, window: int = 8) -> None:
        super().__init__()
        self.shape, self.longest, self.window = shape, longest, window

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        rows, columns = images.shape[-2:]
        if columns > self.longest or rows % self.window or columns % self.window:
            raise IndexError("outside the table")
        return [torch.zeros(self.shape or (1, 8, rows // 8, columns // 8))]


def faked(**options: object) -> Encoder:
    encoder = Encoder("test_resnet", None)
    encoder.network, encoder.strides, encoder.channels = Fake(**options), [8], [8]
    return encoder


@pytest.mark.filterwarnings("ignore:backbone.model")
def test_sizes_are_multiples_of_stride_or_window_and_tiles_where_nothing_longer_goes() -> None:
    assert faked().find_sizes("fake", 64) == (8, None)
    assert faked(window=32).find_sizes("fake", 160) == (32, None)
    assert faked(window=56).find_sizes("fake", 112) == (112, None)
    assert faked(longest=64).find_sizes("fake", 64) == (64, 64)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shape": (1, 64, 16)}, "(ValueError|TypeCheckError)"),
        ({"shape": (1, 8, 14, 14)}, "a stage of stride 8 is 8 x 14 x 14 for an image of 64 x 64"),
        ({"longest": 5}, "IndexError: outside the table"),
    ],
)
def test_features_that_are_no_maps_are_refused_in_one_line(options: dict, reason: str) -> None:
    with pytest.raises(UserError, match=f"backbone.model must have usable features, got flat .{reason}"):
        faked(**options).find_sizes("flat", 64)


def wrapped(state: dict, how: str, file: Path) -> Path:
    if how == "safetensors":
        save_file(state, file.with_suffix(".safetensors"))
        return file.with_suffix(".safetensors")
    torch.save(state if how == "plain" else {how: state, "epoch": 3}, file)
    return file


@pytest.mark.parametrize("how", ["plain", "state_dict", "model", "safetensors"])
@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
def test_weights_of_the_classifier_and_of_the_features(model: str, how: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = timm.create_model(model)
    whole.eval()
    classifier = Encoder(model, str(wrapped(whole.state_dict(), how, tmp_path / "classifier.pt"))).eval()
    features = Encoder(
        model, str(wrapped(classifier.network.state_dict(), how, tmp_path / "features.pt"))
    ).eval()
    images = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        expected = whole.forward_intermediates(images, intermediates_only=True)[-1]
        ones, others = classifier(images), features(images)
    assert all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))
    torch.testing.assert_close(ones[-1], expected)


@pytest.mark.parametrize(
    "content", ["another model", "garbage", "empty", "list", "numbers", "garbage.safetensors"]
)
def test_other_files_are_refused_in_one_line(content: str, tmp_path: Path) -> None:
    file = tmp_path / ("weights.safetensors" if content.endswith("safetensors") else "weights.pt")
    if content == "another model":
        torch.save(timm.create_model("test_resnet").state_dict() | {"conv1.0.weight": torch.zeros(1)}, file)
    elif content in ("list", "numbers"):
        torch.save([1, 2] if content == "list" else {"epoch": 3}, file)
    else:
        file.write_bytes(b"" if content == "empty" else b"no weights at all\n" * 9)
    message = (
        r"must be of the same model, got .* is missing or of another shape"
        if content in ("another model", "numbers")
        else "must be a state dict in safetensors or by torch.save"
    )
    with pytest.raises(UserError, match=message) as refused:
        load_backbone_weights(Encoder("test_resnet", None).network, file)
    assert "\n" not in str(refused.value) and str(file) in str(refused.value)


def test_pretrained_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(
        UserError,
        match=r"must be available for the model, got test_resnet \(OSError: no network\)\. Name a file, or null\.$",
    ):
        Encoder("test_resnet", "timm")


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_their_statistics_whoever_sets_training_mode(frozen: bool) -> None:
    encoder = Encoder("tf_efficientnet_lite0", "imagenet", frozen_norms=frozen)
    before = [layer.running_mean.clone() for layer in encoder.batch_norms()]
    nn.Sequential(encoder).train()
    one, other = torch.rand(1, 3, 64, 64), 3 * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        alone, beside = encoder(one)[-1], encoder(torch.cat([one, other]))[-1][:1]
    moved = max(
        float((layer.running_mean - old).abs().max())
        for layer, old in zip(encoder.batch_norms(), before, strict=True)
    )
    assert (moved == 0) == frozen
    assert torch.allclose(alone, beside, atol=1e-4) == frozen, (
        "the features of an image do not depend on its neighbour"
    )
    assert all(layer.weight.requires_grad != frozen for layer in encoder.batch_norms())


def test_frozen_stages_are_not_trained() -> None:
    encoder = Encoder("tf_efficientnet_lite0", "imagenet", frozen_norms=True, frozen_stages=2)
    learned = {
        name.split(".")[1]
        for name, parameter in encoder.network.named_parameters()
        if parameter.requires_grad and "blocks" in name
    }
    assert learned == {"2", "3", "4", "5", "6"} and not encoder.network.conv_stem.weight.requires_grad
    with pytest.raises(UserError, match=r"backbone.frozen_stages must be in \[0, 5\], got 6"):
        Encoder("tf_efficientnet_lite0", None, frozen_stages=6)


def test_a_stage_that_ends_in_a_layer_without_parameters_is_frozen() -> None:
    network = Encoder("resnet18", "checkpoint", frozen_stages=1).network
    assert not network.conv1.weight.requires_grad, "the first stage ends in act1"
    assert all(parameter.requires_grad for parameter in network.layer1.parameters())


def test_a_stage_is_frozen_by_its_whole_name() -> None:
    network = torch.nn.ModuleDict({f"features_{number}": torch.nn.Linear(1, 1) for number in (0, 1, 2, 11)})
    Encoder.freeze_until(SimpleNamespace(network=network), "features.1")  # type: ignore[arg-type]
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"features_0", "features_1"}


def test_imagenet_weights_name_what_is_on_a_photograph() -> None:
    """The full classifier, from the same package by the same mapping, with the preprocessing that the backbone applies."""
    import importlib.util

    from skimage import data

    from rpe.network.backbone.encoder import PACKAGES, read_package_state

    model = "tf_efficientnet_lite0"
    classifier = timm.create_model(model).eval()
    classifier.load_state_dict(read_package_state(model, PACKAGES[model]))
    encoder = Encoder(model, "imagenet").eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
    for picture, classes in (
        (data.chelsea(), {281, 282, 285}),
        (data.coffee(), {504, 967, 968}),
        (data.rocket(), {657, 744, 812}),
    ):
        image = torch.from_numpy(picture).permute(2, 0, 1).float()[None] / 255
        image = nn.functional.interpolate(image, size=(224, 224), mode="bilinear", antialias=True)
        with torch.no_grad():
            assert classes & set(classifier((image - mean) / std).topk(2).indices[0].tolist())
            stages = encoder((image - mean) / std)
            expected = classifier.forward_intermediates((image - mean) / std, intermediates_only=True)
        assert all(torch.equal(one, other) for one, other in zip(stages, expected, strict=True))
    assert importlib.util.find_spec(PACKAGES[model]) is not None, "part of the extra dev"


def test_a_checkpoint_s_weights_leave_frozen_what_was_frozen() -> None:
    encoder = Encoder("tf_efficientnet_lite0", "checkpoint", frozen_norms=True, frozen_stages=1)
    assert (
        encoder.pretrained
        and not encoder.train().batch_norms()[0].training
        and not encoder.network.conv_stem.weight.requires_grad
    )
