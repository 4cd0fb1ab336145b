"""Image -> pyramid of feature maps, finest first: a small U-Net for the CPU, and any timm model with a decoder."""

from rpe.backbone.decoder import Backbone
from rpe.backbone.timm_pyramid import TimmPyramid
from rpe.backbone.unet import UNet

__all__ = ["Backbone", "TimmPyramid", "UNet"]
