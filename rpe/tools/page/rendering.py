"""Self-contained HTML pages: one base and one stylesheet, pictures inside the page, nothing from outside."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageOps

QUALITY = 82
"""Of pictures in a page, as JPEG."""

REFUSALS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture, or half of one."""


@cache
def environment() -> Environment:
    """The templates; all that they show is escaped, and a name that is missing is an error."""
    return Environment(
        loader=PackageLoader("rpe.tools.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **shown: Any) -> str:
    """A page as text."""
    return environment().get_template(template).render(**shown)


def embedded(content: bytes, kind: str = "png") -> str:
    """A picture as the address under which a page holds it itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def embedded_file(file: Path, widest: int) -> str | None:
    """A picture, shrunk to `widest` pixels across, as JPEG, upright as predictions on it lie; None where it cannot be read."""
    try:
        with Image.open(file) as picture:
            picture.draft("RGB", (widest, widest * picture.height // max(1, picture.width)))
            image = in_colours(ImageOps.exif_transpose(picture))
    except REFUSALS:
        return None
    if image.width > widest:
        image = image.resize(
            (widest, max(1, round(image.height * widest / image.width))), Image.Resampling.BILINEAR
        )
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return embedded(stream.getvalue(), "jpeg")


def in_colours(picture: Image.Image) -> Image.Image:
    """Of 8 bits a colour; Pillow would cut 16 bits off at 255, so the brightest pixel of such a picture becomes white."""
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture.convert("RGB")
    values = np.asarray(picture, dtype=np.float32)
    return Image.fromarray((255 * values.clip(0) / max(1e-6, float(values.max()))).astype(np.uint8)).convert(
        "RGB"
    )
