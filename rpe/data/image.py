"""Image files, opened and decoded with one clear line where they are absent or broken."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rpe.structures import InputError


def open_image(path: Path) -> Image.Image:
    """The file with its header read; its pixels come with `decode`.

    Raises:
        InputError: no such file, or no image.
    """
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"image {path} does not exist: complete the download") from error
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"image {path} does not decode ({type(error).__name__}): replace or remove it") from error


def decode(image: Image.Image, path: Path, mode: str | None) -> np.ndarray:
    """The pixels in a mode such as RGB; None for the file's own.

    Raises:
        InputError: the file is truncated or broken.
    """
    try:
        return np.array(image if mode is None else image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"image {path} does not decode ({error}): replace or remove it") from error
