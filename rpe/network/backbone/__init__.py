"""Backbones: image -> pyramid of feature maps, finest first; a small U-Net, or any timm model with a
decoder."""

from rpe.network.backbone.decoder import Backbone
from rpe.network.backbone.timm_pyramid import TimmPyramid
from rpe.network.backbone.unet import UNet

__all__ = ["Backbone", "TimmPyramid", "UNet"]
