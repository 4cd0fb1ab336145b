"""Templates and embedded pictures for the pages of report and gallery."""

from rpe.tools.page.rendering import PICTURE_ERRORS, embed_file, embed_picture, render

__all__ = ["PICTURE_ERRORS", "embed_file", "embed_picture", "render"]
