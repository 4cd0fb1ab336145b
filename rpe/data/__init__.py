"""Datasets and LightningDataModules: digits, COCO format, folders of masks, VOC with SBD, and BSDS500."""
