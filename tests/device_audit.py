"""Run trainings on a device that does not exist, and count where the host would wait for it.

    python tests/device_audit.py <scratch folder> [--steps] [experiment ...]

`--steps` ends each training after its last counted step. Without it, the run is validated, tested and drawn.

Tensors on the device `far` are computed on the CPU. As on a GPU, an operation on tensors of two devices is an
error, and reading a value, a shape that depends on values, and a blocking copy in either direction stop the
host. Stops are counted by training step and by place in the program. It is a program of its own, as a process
knows one such device for all its life. It prints one JSON object by experiment.
"""

import json
import os
import sys
import traceback
from collections import Counter
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry
from torch._library.custom_ops import OPDEFS
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class Backend(_DummyBackendModule):
    """The module `torch.far`, as Lightning and autocast want it."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


_setup_privateuseone_for_python_backend("far", backend_module=Backend())
FAR, NEAR = torch.device("far", 0), torch.device("cpu")
aten = torch.ops.aten

VALUE_SHAPES = {
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "equal",
    "histc",
    "is_nonzero",
    "repeat_interleave",
    "_local_scalar_dense",
}
"""Operators whose result, a number or a shape, the host waits for."""

ROOT = Path(__file__).resolve().parent.parent


class FarTensor(torch.Tensor):
    """A tensor that pretends to live on the device `far`; `near` holds its values."""

    near: torch.Tensor
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> "FarTensor":
        return torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=FAR, requires_grad=False,
        )  # fmt: skip

    def __init__(self, near: torch.Tensor) -> None:
        self.near = near

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.near.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"FarTensor({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_operator(func, args, kwargs or {}, None)


def place_of_stop() -> str:
    """Return the innermost line of the package, else of a library, that is being executed."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    frames = [frame for frame in frames if frame.filename != __file__]
    own = [frame for frame in frames if str(ROOT / "rpe") in frame.filename]
    frame = (own or frames)[-1]
    caller = "" if not own or own[-1] is frames[-1] else f" in {Path(frames[-1].filename).name}"
    return f"{frame.filename.removeprefix(str(ROOT) + '/')}:{frame.lineno} {frame.name}{caller}"


def is_bool_index(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


def crosses_devices(name: str, args: Any, kwargs: dict[str, Any]) -> str:
    """Return "download" or "upload" for a copy between devices that the host waits for, else nothing."""
    if name == "_to_copy":
        source, target, free = args[0], kwargs.get("device"), kwargs.get("non_blocking", False)
    else:
        source, target, free = args[1], args[0].device, len(args) > 2 and args[2]
    if target is None or torch.device(target).type == source.device.type:
        return ""
    if source.device.type == "far":
        return "download"
    return "" if free else "upload"


def find_stop(name: str, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor]) -> str:
    """Return why the host waits for an operator; nothing where it does not.

    Raises:
        RuntimeError: tensors of two devices meet.
    """
    if name in ("_to_copy", "copy"):
        return crosses_devices(name, args, kwargs)
    far = [isinstance(one, FarTensor) for one in tensors]
    if not any(far):
        return ""
    if any(not there and one.dim() and one.numel() for there, one in zip(far, tensors, strict=True)):
        raise RuntimeError(f"tensors of two devices meet in {name}, at {place_of_stop()}")
    if name in ("index", "index_put", "_unsafe_index") and any(map(is_bool_index, args[1])):
        return "boolean index"
    return name if name in VALUE_SHAPES else ""


def run_operator(func: Any, args: Any, kwargs: dict[str, Any], audit: "Audit | None") -> Any:
    """Compute an operator on the near values, and return far tensors where a GPU would.

    Raises:
        RuntimeError: tensors of two devices meet.
    """
    if func.namespace == "rpe":  # what this package's own operators do on a device is their Python
        with audit or nullcontext():
            return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
    if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        with audit or nullcontext():  # under inference mode these are not taken apart before
            return func.decompose(*args, **kwargs)
    tensors = [one for one in tree_iter((args, kwargs)) if isinstance(one, torch.Tensor)]
    name = func._schema.name.removeprefix("aten::").rstrip("_")
    stop = find_stop(name, args, kwargs, tensors)
    if stop and audit is not None:
        audit.stops[f"{place_of_stop()} ({stop})"] += 1
    wanted = kwargs.get("device")
    near_args, near_kwargs = tree_map_only(FarTensor, lambda one: one.near, (args, kwargs))
    near_kwargs = near_kwargs if wanted is None else {**near_kwargs, "device": NEAR}
    out = func(*near_args, **{key: value for key, value in near_kwargs.items() if key != "pin_memory"})
    if wanted is None:
        there = tensors[0].device == FAR if name == "copy" else any(one.device == FAR for one in tensors)
    else:
        there = torch.device(wanted).type == "far"
    if not there:
        return out
    with torch.inference_mode(False):  # a view of a weight must not be an inference tensor
        out = tree_map_only(torch.Tensor, FarTensor, out)
    return out if wanted is not None else return_and_correct_aliasing(func, args, kwargs, out)


class Audit(TorchDispatchMode):
    """Counts the stops of each training step while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.stops: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_operator(func, args, kwargs or {}, self)


class Functions(TorchFunctionMode):
    """Functions that a device needs kernels for below the operators: tensors from numbers, and attention."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and not isinstance(args[0], torch.Tensor):
            device = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            return made if device is None else made.to(device)
        if func is torch.Tensor.new_tensor:
            made = torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype))
            return made.to(kwargs.get("device", args[0].device))
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, key, value = args
            weight = (query @ key.transpose(-1, -2) * kwargs.get("scale", query.shape[-1] ** -0.5)).softmax(
                -1
            )
            return weight @ value
        if func in (torch.Tensor.numpy, torch.Tensor.tolist) and isinstance(args[0], FarTensor):
            if func is torch.Tensor.numpy:
                raise TypeError(f"numpy() of a tensor on another device, at {place_of_stop()}")
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


class FarAccelerator(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [FAR]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "far"

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}


class StepStart(lightning.Callback):
    """The first callback: keeps the stops before each training step, by the step's index in its epoch."""

    def __init__(self, audit: Audit) -> None:
        self.audit, self.steps = audit, []

    def on_train_batch_start(self, trainer: Any, task: Any, batch: Any, index: int) -> None:
        self.before = Counter(self.audit.stops)


class StepEnd(lightning.Callback):
    """The last callback: keeps the stops of each step, its optimiser and its callbacks."""

    def __init__(self, start: StepStart, steps_only: bool) -> None:
        self.start, self.steps_only = start, steps_only

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, index: int) -> None:
        self.start.steps.append((trainer.current_epoch, index, self.start.audit.stops - self.start.before))
        if self.steps_only and (trainer.current_epoch, index) == (1, 0):
            raise SystemExit


@contextmanager
def far_device() -> Any:
    """Provide the device, and yield what counts the stops."""
    AcceleratorRegistry.register("far", FarAccelerator, "a device that does not exist")
    StrategyRegistry.register("far", SingleDeviceStrategy, "", device=FAR)
    audit = Audit()
    with audit, Functions():
        yield audit


def write_data(folder: Path) -> None:
    """Write every experiment's data in miniature, and let the experiments find them."""
    import miniature_voc
    from bsds_miniature import write_bsds
    from miniature import write_miniature

    miniature_voc.VOC_TRAIN = [f"2007_00000{number}" for number in (1, 2, 5, 6)]  # two steps an epoch
    os.environ["RPE_DATA_DIR"] = str(folder)
    write_miniature(folder / "coco")
    write_miniature(folder / "nuclei", years="")
    miniature_voc.write_sbd(miniature_voc.write_voc(folder))
    write_bsds(folder / "BSR" / "BSDS500" / "data")


def audit_experiment(experiment: str, folder: Path, audit: Audit, steps_only: bool) -> dict[str, Any]:
    """Train two epochs, validate, test and draw an experiment in small; return the stops of each step.

    `first` is the first step of the second epoch, which measures the terms' gradients and trains the ranker.
    `later` are the steps with index 1, 2, .. of both epochs. `places` are those of all these steps.
    """
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import rpe.run.train
    import train

    start = StepStart(audit)
    build_trainer = rpe.run.train.build_trainer

    def watched(config: Any, where: Path, callbacks: list[Any], loggers: list[Any]) -> lightning.Trainer:
        return build_trainer(config, where, [start, *callbacks, StepEnd(start, steps_only)], loggers)

    digits = experiment.startswith("digits")
    small = ["data.train_scenes=4", "data.val_scenes=1", "data.test_scenes=1"] if digits else ["data.crop=32"]
    small += ["backbone=timm", "backbone.model=resnet10t"] if experiment.startswith("voc_") else []
    small += ["backbone.width=8", "backbone.levels=2"] if digits else []
    sys.argv = [
        "train.py", f"experiment={experiment}", "trainer.accelerator=far", "+trainer.strategy=far",
        "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=2", "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1", "data.eval_batch_size=1", "data.batch_size=2", "data.num_workers=0",
        f"hydra.run.dir={folder / experiment}", *small,
    ]  # fmt: skip
    rpe.run.train.build_trainer = watched
    try:
        with suppress(SystemExit) if steps_only else nullcontext():
            rpe.run.run_command(train.main)
    finally:
        rpe.run.train.build_trainer = build_trainer
    first = [stops for epoch, index, stops in start.steps if (epoch, index) == (1, 0)]
    later = [stops for _, index, stops in start.steps if index > 0]
    assert first and later, f"{experiment} has trained too few steps"
    return {
        "first": [stops.total() for stops in first],
        "later": [stops.total() for stops in later],
        "places": {"first": dict(sum(first, Counter())), "later": dict(sum(later, Counter()))},
    }


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    sys.path.insert(0, str(ROOT / "tests"))
    write_data(folder / "data")
    steps_only = "--steps" in sys.argv
    experiments = [name for name in sys.argv[2:] if name != "--steps"] or sorted(
        path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")
    )
    found = {}
    stdout, sys.stdout = sys.stdout, sys.stderr
    with far_device() as audit:
        for experiment in experiments:
            torch.manual_seed(0)
            np.random.seed(0)
            found[experiment] = audit_experiment(experiment, folder, audit, steps_only)
    stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
