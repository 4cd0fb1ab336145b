"""How long the gradients are, as they were before clipping: of the backbone, of the embedding, of all other parts, and of all."""

import lightning
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

PARTS = ("backbone", "embedding", "others")
"""Of a network; each has at most one norm a step, and so has the whole, `total`."""


def part_of(parameter: str) -> str:
    """Which part a parameter of a task belongs to, by its name: `model.backbone.stem.weight`; a detector has several `embeddings`."""
    names = [*parameter.split("."), ""]
    return {"backbone": "backbone", "embedding": "embedding", "embeddings": "embedding"}.get(
        names[1], "others"
    )


class GradientNorm(lightning.Callback):
    """Logs each epoch `gradient/<part>-mean` and `-max` over its steps, and `gradient/overflows`: steps whose gradients were not finite, as half
    precision has them, which count in neither. Nothing waits for the device before the epoch's end."""

    def __init__(self) -> None:
        self.parts: dict[str, list[torch.nn.Parameter]] = {}

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.parts = {part: [] for part in PARTS}
        for name, parameter in task.named_parameters():
            self.parts[part_of(name)].append(parameter)

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        zero = torch.zeros(len(PARTS) + 1, device=task.device)
        self.sum, self.max, self.steps, self.overflows = zero, zero.clone(), zero[0].clone(), zero[0].clone()

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Before clipping, and after half precision's factor was taken out."""
        norms = self.norms(task.device)
        finite = norms[-1].isfinite()
        counted = torch.where(finite, norms, 0.0)
        self.sum = self.sum + counted
        self.max = torch.maximum(self.max, counted)
        self.steps = self.steps + finite
        self.overflows = self.overflows + ~finite

    def norms(self, device: torch.device) -> Float[Tensor, " part"]:
        """The Euclidean norm of each part's gradients, 0 where it has none, and last that of all."""
        gradients = [
            [parameter.grad for parameter in self.parts[part] if parameter.grad is not None] for part in PARTS
        ]
        norms = torch.stack(
            [get_total_norm(some).float() if some else torch.zeros((), device=device) for some in gradients]
        )
        return torch.cat([norms, torch.linalg.vector_norm(norms)[None]])

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        mean = self.sum / self.steps.clamp(min=1)
        logged = {"gradient/overflows": self.overflows}
        for index, part in enumerate((*PARTS, "total")):
            logged |= {f"gradient/{part}-mean": mean[index], f"gradient/{part}-max": self.max[index]}
        task.log_dict(
            logged, sync_dist=True
        )  # the same on every rank already, as what each found was averaged before; Lightning asks for it
