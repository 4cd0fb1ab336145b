"""Fit a trained run's ranker again; the network stays as it is."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.callbacks.checkpoint import WholeCheckpoints
from rpe.data.module import SplitDataset
from rpe.run.building import build_data
from rpe.run.folder import checkpoint_of, read_checkpoint
from rpe.run.trained import iterate_outputs, load_run
from rpe.segment import LearnedRanker, compute_best_ious, compute_group_features, truth_on_grid
from rpe.structures import UserError, check_count
from rpe.task.instance import InstanceTask
from rpe.tools.command import read_arguments, run_tool

USAGE = """
Fit a run's ranker to the groups of whole training images, under its trained network and proposal settings.

    python -m rpe.tools.ranking run=<run folder> [images=400] [epochs=30]

During training the ranker sees groups of a network that still changes, one image and one setting at a time.
This fit covers all settings, such as several foreground thresholds. It writes the new ranker into the run's
best checkpoint.
"""

BATCH, RATE, DECAY, DROPOUT = 256, 2e-3, 1e-3, 0.2
"""Groups of a step, AdamW's learning rate and weight decay, and the share of dropped hidden units."""


def main(arguments: list[str]) -> None:
    """Fit the ranker and write it into the checkpoint.

    Raises:
        UserError: the folder holds no run, or its ranker does not learn.
    """
    options = read_arguments(arguments, {"run": None, "images": 400, "epochs": 30, "seed": 0}, USAGE)
    for name in ("images", "epochs"):
        check_count(name, options[name], 1, "it is a number")
    config, task = load_run(options["run"])
    if not isinstance(task, InstanceTask) or not isinstance(task.proposal.ranker, LearnedRanker):
        raise UserError(f"run must have ranker=learned, got {options['run']}. Train with ranker=learned.")
    dataset = build_data(config).open_split("train", training=False)
    assert isinstance(dataset, SplitDataset)
    features, quality, weight = describe_groups(task, dataset, int(options["images"]))
    before, after = fit_ranker(
        task.proposal.ranker, features, quality, weight, int(options["epochs"]), int(options["seed"])
    )
    file = checkpoint_of(str(options["run"]))
    content = read_checkpoint(file)
    own = {name: value for name, value in task.state_dict().items() if ".ranker." in name}
    content["state_dict"] |= own
    WholeCheckpoints().save_checkpoint(content, Path(file))
    print(
        f"{len(quality):,} groups of {min(len(dataset), int(options['images']))} images; "
        f"cross-entropy {before:.4f} before, {after:.4f} after: {file}"
    )


@torch.no_grad()
def describe_groups(
    task: InstanceTask, dataset: SplitDataset, images: int
) -> tuple[Float[Tensor, "group feature"], Tensor, Tensor]:
    """Return features, quality and weight of the groups of evenly spaced images; images weigh the same."""
    features, qualities, weights = [], [], []
    for batch, embedded, geometry in iterate_outputs(task, dataset, images):
        truth = truth_on_grid(batch.labels[0], embedded.points)
        found = []
        for setting in task.proposal.settings:
            small = task.proposal.min_area / embedded.points.stride**2
            grouped = task.proposal.group_cells(embedded, geometry.network_size, setting, small)
            found.append(
                (torch.cat(compute_group_features(grouped, embedded), 1), compute_best_ious(grouped, truth))
            )
        number = sum(len(quality) for _, quality in found)
        for described, quality in found:
            features.append(described)
            qualities.append(quality)
            weights.append(torch.full_like(quality, 1 / max(1, number)))
    weight = torch.cat(weights)
    return torch.cat(features), torch.cat(qualities), weight / weight.mean()


def fit_ranker(
    ranker: LearnedRanker,
    features: Float[Tensor, "group feature"],
    quality: Float[Tensor, " group"],
    weight: Float[Tensor, " group"],
    epochs: int,
    seed: int,
) -> tuple[float, float]:
    """Fit the two layers anew on standardised features, and return the loss before and after.

    The scaling is folded into the first layer.
    """
    first, _, last = ranker.layers
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)

    def loss_of(logits: Float[Tensor, " some"], chosen: Any) -> Float[Tensor, ""]:
        return (
            functional.binary_cross_entropy_with_logits(logits, quality[chosen], reduction="none")
            * weight[chosen]
        ).mean()

    everything = slice(None)
    with torch.no_grad():
        before = float(loss_of(ranker.layers(features)[:, 0], everything))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for layer in (first, last):
        layer.reset_parameters()
    network = nn.Sequential(first, nn.ReLU(), nn.Dropout(DROPOUT), last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    standard = (features - mean) / deviation
    for _ in range(epochs):
        for chosen in torch.randperm(len(features), generator=generator).split(BATCH):
            loss = loss_of(network(standard[chosen])[:, 0], chosen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        first.bias -= first.weight @ (mean / deviation)
        first.weight /= deviation
        return before, float(loss_of(ranker.layers(features)[:, 0], everything))


if __name__ == "__main__":
    run_tool(main)
