"""Datasets and LightningDataModules: digits, and anything in COCO format."""
