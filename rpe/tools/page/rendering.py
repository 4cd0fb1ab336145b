"""Render self-contained HTML pages from one base template, with the pictures inside the page."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageOps

JPEG_QUALITY = 82
"""Quality of a page's JPEG pictures."""

PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Exceptions that Pillow raises for a file that is not a picture, or is truncated."""


@cache
def environment() -> Environment:
    """Return the template environment: content is escaped, and an undefined name is an error."""
    return Environment(
        loader=PackageLoader("rpe.tools.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **shown: Any) -> str:
    """Return a page as text."""
    return environment().get_template(template).render(**shown)


def embed_picture(content: bytes, kind: str = "png") -> str:
    """Return a picture as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def embed_file(file: Path, widest: int) -> str | None:
    """Return a picture file as a data URL in JPEG; None where it cannot be read.

    It is turned upright by its EXIF orientation, as predictions on it are.

    Args:
        file: the picture.
        widest: the largest width in pixels.
    """
    try:
        with Image.open(file) as picture:
            picture.draft("RGB", (widest, widest * picture.height // max(1, picture.width)))
            image = reduce_to_rgb(ImageOps.exif_transpose(picture))
    except PICTURE_ERRORS:
        return None
    if image.width > widest:
        image = image.resize(
            (widest, max(1, round(image.height * widest / image.width))), Image.Resampling.BILINEAR
        )
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return embed_picture(stream.getvalue(), "jpeg")


def reduce_to_rgb(picture: Image.Image) -> Image.Image:
    """Return a picture with 8 bits a channel.

    Pillow would clip 16 bits at 255, so the brightest pixel of such a picture becomes white.
    """
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture.convert("RGB")
    values = np.asarray(picture, dtype=np.float32)
    return Image.fromarray((255 * values.clip(0) / max(1e-6, float(values.max()))).astype(np.uint8)).convert(
        "RGB"
    )
