"""Bring config and weights of an earlier run up to today's names. Does not import torch, so light commands start fast."""

from typing import Any

Node = dict[str, Any]

MOVED = {
    "rpe.backbone": "rpe.network.backbone",
    "rpe.detection": "rpe.segment.boundary_map",
    "rpe.embedding": "rpe.network.embedding",
    "rpe.head": "rpe.network.head",
    "rpe.proposal": "rpe.segment",
    "rpe.schedule": "rpe.task.schedule",
}
"""Modules that configs of earlier runs name in their `_target_`s, and where these lie today."""

OPTIMIZERS = {"torch.optim.AdamW": "rpe.task.optimizer.adamw", "torch.optim.SGD": "rpe.task.optimizer.sgd"}
"""Classes that were named directly, and the functions that make them over parameter groups."""

ADDED: dict[str, Node] = {
    "rpe.loss.InstanceLoss": {"iterate_weights": "sum", "assignment_weight": 0.0, "assignment_concentration": 10.0},
    "rpe.loss.SemanticLoss": {"iterate_weights": "sum"},
    "rpe.loss.BoundaryLoss": {"iterate_weights": "sum"},
    "rpe.network.backbone.TimmPyramid": {"frozen_norms": False, "frozen_stages": 0},
    "rpe.data.voc.Voc": {"copy_paste": 0.0},
    "rpe.task.optimizer.adamw": {"encoder_scale": 1.0},
    "rpe.task.optimizer.sgd": {"encoder_scale": 1.0},
}
"""Options by target that earlier runs did not have, with the value under which nothing changes."""


WEIGHTS = {"model.ranker.": "proposal.ranker."}
"""Beginnings of the names of weights, then and today."""


def with_todays_weights(checkpoint: Node) -> Node:
    """Return a checkpoint whose weights, averaged or not, have today's names; one of today comes back as it is."""

    def renamed(name: str) -> str:
        return next((today + name.removeprefix(then) for then, today in WEIGHTS.items() if name.startswith(then)), name)

    parts = {key: checkpoint[key] for key in ("state_dict", "current_model_state") if isinstance(checkpoint.get(key), dict)}
    return checkpoint | {key: {renamed(name): values for name, values in state.items()} for key, state in parts.items()}


def with_todays_names(node: Any) -> Any:
    """Return settings whose targets, keys and options are today's; settings of today come back as they are."""
    if isinstance(node, list):
        return [with_todays_names(child) for child in node]
    if not isinstance(node, dict):
        return node
    settings = {key: with_todays_names(child) for key, child in node.items()}
    if isinstance(target := settings.get("_target_"), str):
        module, _, name = target.rpartition(".")
        target = settings["_target_"] = OPTIMIZERS.get(target, f"{MOVED.get(module, module)}.{name}")
        settings |= {key: value for key, value in ADDED.get(target, {}).items() if key not in settings}
        if target == "rpe.segment.Proposer" and "foreground" in settings:
            settings["foreground_thresholds"] = [settings.pop("foreground")]
    return settings
