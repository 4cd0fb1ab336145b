import torch

from rpe.network.backbone.decoder import Decoder, pad_images, resize_map


def test_padding_continues_the_image_by_its_reflection_below_and_to_the_right() -> None:
    images = torch.rand(1, 3, 5, 7)
    wider = pad_images(images, 4)
    assert wider.shape == (1, 3, 8, 8)
    assert torch.equal(wider[..., :5, :7], images)
    assert torch.equal(wider[..., 5:, :7], images[..., 2:, :].flip(-2))
    assert torch.equal(wider[..., :5, 7:], images[..., 6:])


def test_padding_of_less_than_the_multiple_reflects_at_both_ends() -> None:
    column = torch.tensor([1.0, 2.0]).reshape(1, 1, 2, 1).expand(1, 3, 2, 1)
    assert pad_images(column, 8)[0, 0, :, 0].tolist() == [1, 2, 2, 1, 1, 2, 2, 1]
    assert pad_images(column, 8)[0, 0, 0].tolist() == [1] * 8


def test_a_resized_ramp_keeps_its_positions() -> None:
    # cell (r, c) of stride s is centred on s (r + 1/2): a ramp of positions stays one, away from the border
    coarse = ((torch.arange(8) + 0.5) * 14)[None, None, :, None].expand(1, 1, 8, 8)
    fine = resize_map(coarse, (14, 14))
    torch.testing.assert_close(fine[0, 0, 1:-1, 3], ((torch.arange(14) + 0.5) * 8)[1:-1])
    assert resize_map(coarse, (8, 8)) is coarse


def test_the_decoder_keeps_sizes_and_brings_the_coarse_to_the_fine() -> None:
    decoder = Decoder([8, 16])
    fine, coarse = torch.rand(1, 8, 6, 6), torch.rand(1, 16, 3, 3, requires_grad=True)
    decoded = decoder([fine, coarse])
    assert [values.shape for values in decoded] == [fine.shape, coarse.shape] and decoded[1] is coarse
    decoded[0].sum().backward()
    assert (coarse.grad != 0).any()
