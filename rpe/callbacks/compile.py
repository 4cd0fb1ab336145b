"""Compile network, grouping and pairwise loss for training."""

from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch import nn

from rpe.structures import UserError


def compiled_parts(task: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts of a task that are compiled: backbone, embeddings, heads, grouping, pairwise loss.

    Each is compiled in place, which keeps the names of the weights. The task itself is not, as logging cuts
    the graph.
    """
    for part in task.get_submodule("model").children():
        yield from part if isinstance(part, nn.ModuleList) else [part]
    yield task.get_submodule("loss.pairwise")


class CompileTraining(lightning.Callback):
    """A callback that compiles the training step's parts when training starts.

    Their shapes are fixed by `data.crop`, `data.batch_size` and `loss.pairwise.num_pixels`. Between the steps
    all code runs as it is: validation images differ in size, and each size would be compiled anew.

    Args:
        backend: of `torch.compile`; True is "inductor".

    Raises:
        UserError: torch has no such backend.
    """

    def __init__(self, backend: bool | str) -> None:
        self.backend = "inductor" if backend is True else str(backend)
        known = torch.compiler.list_backends(exclude_tags=())
        if self.backend not in known:
            raise UserError(
                f"compile must be true, false or a backend of torch.compile, got {backend}. "
                f"This torch has {', '.join(sorted(known))}."
            )

    def on_fit_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        for part in compiled_parts(task):
            part.compile(backend=self.backend, dynamic=False)
        torch.compiler.set_stance("force_eager")

    def on_train_batch_start(self, *_: Any) -> None:
        torch.compiler.set_stance("default")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.compiler.set_stance("force_eager")

    def teardown(self, trainer: lightning.Trainer, task: lightning.LightningModule, stage: str) -> None:
        torch.compiler.set_stance("default")
        for part in compiled_parts(task):
            part._compiled_call_impl = None  # the test and later uses run the weights as they are
