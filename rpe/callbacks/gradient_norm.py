"""Log gradient norms before clipping: of backbone, embedding, other parts, and the whole network."""

import lightning
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

NETWORK_PARTS = ("backbone", "embedding", "others")
"""Parts of a network with a norm of their own; the norm of the whole is `total`."""


def part_of(parameter: str) -> str:
    """Return the part of a task's parameter, by its name, such as `model.backbone.stem.weight`.

    A boundary detector has several `embeddings`.
    """
    names = [*parameter.split("."), ""]
    return {"backbone": "backbone", "embedding": "embedding", "embeddings": "embedding"}.get(
        names[1], "others"
    )


class GradientNorm(lightning.Callback):
    """A callback that logs `gradient/<part>-mean`, `gradient/<part>-max` and `gradient/overflows` each epoch.

    Mean and maximum are over the epoch's steps. Overflows are steps with gradients that are not finite, as
    half precision produces; they count in neither. All values stay on the device until the epoch ends. A
    checkpoint in the middle of an epoch holds them.
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[torch.nn.Parameter]] = {}
        self.seen: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Tensor]:
        return self.seen

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.seen = state

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.parts = {part: [] for part in NETWORK_PARTS}
        for name, parameter in task.named_parameters():
            self.parts[part_of(name)].append(parameter)
        self.seen = {name: values.to(task.device) for name, values in self.seen.items()}

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        zero = torch.zeros(len(NETWORK_PARTS) + 1, device=task.device)
        self.seen = {"sum": zero, "max": zero, "steps": zero[0], "overflows": zero[0]}

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add this step's norms; Lightning calls this before clipping and after unscaling."""
        norms = self.norms(task.device)
        finite = norms[-1].isfinite()
        counted = torch.where(finite, norms, 0.0)
        self.seen = {
            "sum": self.seen["sum"] + counted,
            "max": torch.maximum(self.seen["max"], counted),
            "steps": self.seen["steps"] + finite,
            "overflows": self.seen["overflows"] + ~finite,
        }

    def norms(self, device: torch.device) -> Float[Tensor, " part"]:
        """Return the Euclidean norm of each part's gradients, 0 without gradients, and of the whole last."""
        gradients = [
            [parameter.grad for parameter in self.parts[part] if parameter.grad is not None]
            for part in NETWORK_PARTS
        ]
        norms = torch.stack(
            [get_total_norm(some).float() if some else torch.zeros((), device=device) for some in gradients]
        )
        return torch.cat([norms, torch.linalg.vector_norm(norms)[None]])

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        mean = self.seen["sum"] / self.seen["steps"].clamp(min=1)
        logged = {"gradient/overflows": self.seen["overflows"]}
        for index, part in enumerate((*NETWORK_PARTS, "total")):
            logged |= {f"gradient/{part}-mean": mean[index], f"gradient/{part}-max": self.seen["max"][index]}
        # gradients are already averaged over ranks, but Lightning warns without sync_dist
        task.log_dict(logged, sync_dist=True)
