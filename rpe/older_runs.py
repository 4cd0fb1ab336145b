"""Bring config and weights of an earlier run up to today's names. Does not import torch, so light commands
start fast.

An option in the name of a sweep's job is renamed with it, so such jobs of an earlier sweep are run again.
"""

from typing import Any

Settings = dict[str, Any]

GROUPS = {"callback": "callbacks", "init": "init_from"}
"""Groups and keys of earlier configs and commands, and their names today."""

OPTIONS = {
    "data": {
        "agree": "min_annotators",
        "scales": "scale_range",
        "slack": "vote_radius",
        "stretch": "percentile_range",
        "workers": "num_workers",
    },
    "detection": {"suppression": "nms"},
    "head": {"subdivision": "upscale"},
    "loss": {
        "groups": "grouping_target",
        "pairwise_weight": "pairwise.weight",
        "pixels": "pairwise.num_pixels",
        **{
            key: f"pairwise.{key}"
            for key in (
                "margin",
                "negative_weight",
                "weighting",
                "squared",
                "negative_range",
                "sampling",
                "iterate_weights",
            )
        },
    },
    "proposal": {
        "components": "split_components",
        "duplicate_iou": "nms_iou",
        "keys": "max_keys",
        "least_score": "score_threshold",
        "maximum": "max_proposals",
        "minimum_area": "min_area",
    },
}
"""Options of each group that earlier configs and commands have, and their names today."""

EARLIER_KEYS = GROUPS | {"least_score": "score_threshold", "ranker=plain": "ranker=heuristic"}
"""What commands may still say, beside `OPTIONS`: a key, or a group with its option."""

MOVED = {
    "rpe.backbone": "rpe.network.backbone",
    **{
        f"rpe.callback.{name}": f"rpe.callbacks.{name}"
        for name in (
            "collapse",
            "gradient_norm",
            "metrics_csv",
            "pictures",
            "progress",
            "wandb_run",
            "weight_average",
        )
    },
    "rpe.detection": "rpe.segment.boundary_map",
    "rpe.embedding": "rpe.network.embedding",
    "rpe.head": "rpe.network.head",
    "rpe.proposal": "rpe.segment",
    "rpe.schedule": "rpe.task.schedule",
}
"""Modules that configs of earlier runs name in their `_target_`s, and where these lie today."""

OPTIMIZERS = {"torch.optim.AdamW": "rpe.task.optimizer.adamw", "torch.optim.SGD": "rpe.task.optimizer.sgd"}
"""Classes that were named directly, and the functions that make them over parameter groups."""

RANKERS = {
    f"{module}.PlainRanker": f"{module}.HeuristicRanker" for module in ("rpe.segment", "rpe.segment.ranker")
}
"""Rankers that were renamed, by their target where it lies today."""

ADDED: dict[str, Settings] = {
    "rpe.loss.InstanceLoss": {"assignment_weight": 0.0, "assignment_concentration": 10.0},
    "rpe.loss.SampledPairwiseLoss": {"weight": 1.0, "iterate_weights": "sum"},
    "rpe.segment.Proposer": {"views": 1},
    "rpe.network.backbone.UNet": {"norm_window": None},
    "rpe.network.backbone.TimmPyramid": {"frozen_norms": False, "frozen_stages": 0, "norm_window": None},
    "rpe.network.head.BoundaryClassifier": {"features": False},
    "rpe.callbacks.pictures.Pictures": {"images_in_training": 0},
    "rpe.data.voc.Voc": {"copy_paste": 0.0},
    "rpe.task.optimizer.adamw": {"encoder_scale": 1.0},
    "rpe.task.optimizer.sgd": {"encoder_scale": 1.0},
}
"""Options by target that earlier runs did not have, with the value under which nothing changes."""


FILE_KEYS = {"figures": "metrics", "points": "jobs"}
"""Keys of earlier `metrics.json` and `sweep.yaml`, and their names today."""

WEIGHTS = {"model.ranker.": "proposal.ranker.", "detector.": "model."}
"""Beginnings of the names of weights, then and today."""


def with_todays_keys(content: Settings) -> Settings:
    """Return the content of a `metrics.json` or `sweep.yaml` under today's keys."""
    return {FILE_KEYS.get(key, key): value for key, value in content.items()}


def with_todays_weights(checkpoint: Settings) -> Settings:
    """Return a checkpoint whose weights, averaged or not, have today's names; one of today comes back as it
    is."""

    def renamed(name: str) -> str:
        return next(
            (today + name.removeprefix(then) for then, today in WEIGHTS.items() if name.startswith(then)),
            name,
        )

    parts = {
        key: checkpoint[key]
        for key in ("state_dict", "current_model_state")
        if isinstance(checkpoint.get(key), dict)
    }
    return checkpoint | {
        key: {renamed(name): values for name, values in state.items()} for key, state in parts.items()
    }


def todays_override(override: str) -> str:
    """Return an override of a command line under today's names; one of today comes back as it is."""
    sign = override[: len(override) - len(override.lstrip("+~"))]
    key, given, value = override[len(sign) :].partition("=")
    if override in EARLIER_KEYS:
        return EARLIER_KEYS[override]
    group, dot, option = key.partition(".")
    todays = EARLIER_KEYS.get(group, group) + dot + OPTIONS.get(group, {}).get(option, option)
    return sign + todays + given + value


def todays_run(run: Settings) -> Settings:
    """Return the config of a run whose groups, options and targets are today's; one of today comes back as it
    is."""
    settings = {GROUPS.get(key, key): value for key, value in run.items()}
    for group, options in OPTIONS.items():
        if isinstance(node := settings.get(group), dict):
            settings[group] = renamed(node, options)
    loss = settings.get("loss")
    if isinstance(loss, dict) and isinstance(loss.get("pairwise"), dict):
        loss["pairwise"].setdefault("_target_", "rpe.loss.SampledPairwiseLoss")
    return {key: with_todays_targets(value) for key, value in settings.items()}


def renamed(node: Settings, options: dict[str, str]) -> Settings:
    """Return a group's node with its options renamed; a name with a dot lies in a node of its own."""
    settings: Settings = {}
    for key, value in node.items():
        parent, _, name = options.get(key, key).rpartition(".")
        (settings.setdefault(parent, {}) if parent else settings)[name] = value
    return settings


def with_todays_targets(node: Any) -> Any:
    """Return settings whose targets, and the options that these need, are today's."""
    if isinstance(node, list):
        return [with_todays_targets(child) for child in node]
    if not isinstance(node, dict):
        return node
    settings = {key: with_todays_targets(child) for key, child in node.items()}
    if isinstance(target := settings.get("_target_"), str):
        module, _, name = target.rpartition(".")
        target = OPTIMIZERS.get(target, f"{MOVED.get(module, module)}.{name}")
        target = settings["_target_"] = RANKERS.get(target, target)
        settings |= {key: value for key, value in ADDED.get(target, {}).items() if key not in settings}
        if target == "rpe.grouping.MeanShift" and settings.get("step") == 1:
            del settings["step"]  # half steps gained less, so the option is gone
        if target == "rpe.segment.Proposer" and "foreground" in settings:
            settings["foreground_thresholds"] = [settings.pop("foreground")]
    return settings
