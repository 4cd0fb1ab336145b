"""Look at image files: kinds, orientation, content, and files that are the same."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from rpe.data.image import LEAST_RANGE, decode, of_any_size, open_image
from rpe.data.pixels import DEEP_MODES, decoding
from rpe.structures import UserError
from rpe.tools.doctor.annotation import Part, some

HEADERS = 5000
"""Files whose header is read, evenly drawn: half a second a thousand."""

HASHED = 2**22
"""Bytes of a file that are compared; only files of one length are."""

ORIENTATION = 0x0112

SATURATED = 0.3
"""Share of white pixels from which an image is told."""


def drawn(count: int, most: int) -> list[int]:
    """Return at most so many places, evenly drawn."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def examine_files(files: list[Path], decoded: int, stretched: bool) -> Part:
    """Return the kinds of the files, and lines on those that are odd.

    Args:
        files: of a split.
        decoded: up to so many are read whole.
        stretched: their intensities are, so dark ones are no fault.
    """
    kinds: Counter[str] = Counter()
    odd: dict[str, list[str]] = defaultdict(list)
    whole = {files[place] for place in drawn(len(files), decoded)}
    for file in [files[place] for place in drawn(len(files), HEADERS)]:
        try:
            # Pillow reads the end of a file for some of its headers
            with of_any_size(), decoding(file), open_image(file) as image:
                kinds[f"{image.format} {image.mode}"] += 1
                for what in [
                    *odd_header(image),
                    *(odd_content(image, file, stretched) if file in whole else []),
                ]:
                    odd[what].append(file.name)
        except UserError:
            odd["that do not decode"].append(file.name)
    kind = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common())
    return Part(
        {"image files": kind}, [line for what, names in odd.items() for line in some(names, f"images {what}")]
    )


def odd_header(image: Image.Image) -> list[str]:
    """Return what a viewer or another page would show otherwise."""
    found = []
    if image.getexif().get(ORIENTATION, 1) != 1:
        found.append("with an EXIF orientation: are the masks drawn upright?")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        found.append("of several pages")
    return found


def odd_content(image: Image.Image, file: Path, stretched: bool) -> list[str]:
    """Return what is unlikely in an image that has something to show."""
    values = decode(image, file).astype(np.float32)
    alpha = values[..., -1] if image.mode in ("RGBA", "LA") else None
    values = values if values.ndim == 2 else values[..., : 1 if image.mode == "LA" else 3].mean(-1)
    top = 65535 if image.mode in DEEP_MODES else 255
    low, high = np.percentile(values, (1, 99))
    found = []
    if values.min() == values.max():
        found.append("of one value")
    elif high - low < LEAST_RANGE * top / 255 and not stretched:
        found.append("of nearly no contrast: data.percentile_range=[1,99.8] makes the most of it")
    if (values >= top).mean() > SATURATED:
        found.append(f"with over {SATURATED:.0%} of white pixels")
    if alpha is not None and alpha.min() < 255:
        found.append("whose alpha hides pixels")
    return found


def same_files(splits: dict[str, list[Path]]) -> list[str]:
    """Return lines on files of the same content, within a split and in two of them."""
    by_length: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, files in splits.items():
        for file in files:
            if file.is_file():
                by_length[file.stat().st_size].append((split, file))
    by_content: dict[tuple[int, bytes], list[tuple[str, Path]]] = defaultdict(list)
    for length, group in by_length.items():
        for split, file in group if len(group) > 1 else []:
            with file.open("rb") as stream:
                by_content[length, hashlib.sha256(stream.read(HASHED)).digest()].append((split, file))
    pairs = [(group[0], other) for group in by_content.values() for other in group[1:]]
    within = [f"{one[1].name} and {other[1].name}" for one, other in pairs if one[0] == other[0]]
    across = [
        f"{one[1].name} ({one[0]}) and {other[1].name} ({other[0]})"
        for one, other in pairs
        if one[0] != other[0]
    ]
    return some(within, "pairs of images with the same content") + some(
        across, "images that are in two splits"
    )
