import pytest
import torch
from torch import nn

from rpe.structures import UserError
from rpe.task.optimizer import adamw, parameter_groups, sgd


class Network(nn.Module):
    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        self.encoder, self.head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Linear(4, 2)
        self.encoder.pretrained = pretrained


def test_each_parameter_has_its_rate_and_decay_once() -> None:
    network = Network(True)
    network.encoder[0].bias.requires_grad_(False)
    found = {
        id(p): (g["lr"], g["weight_decay"])
        for g in parameter_groups(network, 1.0, 0.5, 0.1)
        for p in g["params"]
    }
    wanted = {
        network.encoder[0].weight: (0.1, 0.5),
        network.encoder[1].weight: (0.1, 0.0),
        network.encoder[1].bias: (0.1, 0.0),
        network.head.weight: (1.0, 0.5),
        network.head.bias: (1.0, 0.0),
    }
    assert found == {id(parameter): pair for parameter, pair in wanted.items()}


def test_an_encoder_from_scratch_has_the_full_rate() -> None:
    assert {group["lr"] for group in parameter_groups(Network(False), 1.0, 0.5, 0.1)} == {1.0}


def test_both_optimisers_step_by_their_groups() -> None:
    for make in (adamw, lambda *options: sgd(options[0], options[1], 0.0, *options[2:])):
        network = Network(True)
        optimizer = make(network, 0.1, 0.0, 0.0)
        before = [p.detach().clone() for p in network.parameters()]
        network.head(network.encoder(torch.rand(2, 3, 1, 1))[..., 0, 0]).square().sum().backward()
        optimizer.step()
        moved = [not torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True)]
        assert moved == [False, False, False, False, True, True]


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_factor_is_refused(scale: float) -> None:
    with pytest.raises(UserError, match="optimizer.encoder_scale must be finite and >= 0"):
        parameter_groups(Network(True), 1.0, 0.0, scale)
