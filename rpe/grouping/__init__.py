"""Recurrent mean shift on the sphere: the differentiable loops for training, the modes for inference."""

from rpe.grouping.kernel import kernel_mean
from rpe.grouping.mean_shift import MeanShift, mean_shift
from rpe.grouping.modes import find_modes
from rpe.grouping.nonblurring import nonblurring_mean_shift

__all__ = ["MeanShift", "find_modes", "kernel_mean", "mean_shift", "nonblurring_mean_shift"]
