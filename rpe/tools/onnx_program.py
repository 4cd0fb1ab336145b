"""Convert a program of torch.export to ONNX, and run it in onnxruntime."""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

OPSET = 20
"""Version of ONNX's operators; onnxruntime knows it from 1.17 on."""


def find_missing() -> list[str]:
    """Return the packages of the extra `onnx` that are not installed."""
    return [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]


def to_onnx(program: Any, outputs: list[str]) -> bytes:
    """Return a program of torch.export as one ONNX file, with the free sizes of the program.

    Args:
        program: a `torch.export.ExportedProgram`.
        outputs: names of its outputs.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and of onnxscript, about their own future
        converted = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, output_names=outputs, verbose=False
        )
    assert converted is not None
    return bytes(converted.model_proto.SerializeToString())


def open_onnx(content: bytes) -> Callable[..., list[Tensor]]:
    """Return an ONNX file as a function of tensors, in onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*given: Tensor) -> list[Tensor]:
        arrays = {name: np.ascontiguousarray(one.numpy()) for name, one in zip(names, given, strict=True)}
        return [torch.from_numpy(one) for one in session.run(None, arrays)]

    return run
