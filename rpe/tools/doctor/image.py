"""Examine image files: formats, orientation, content, and duplicates."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from rpe.data.image import LEAST_RANGE, decode, lift_pixel_limit, open_image
from rpe.data.pixels import DEEP_MODES, decoding
from rpe.structures import UserError
from rpe.tools.doctor.annotation import Part, report_some

MAX_HEADERS = 5000
"""Files whose header is read, evenly spaced: half a second for a thousand."""

HASHED_BYTES = 2**22
"""Bytes of a file that are compared; only files of one length are."""

ORIENTATION = 0x0112

WHITE_SHARE = 0.3
"""Share of white pixels above which an image is reported."""


def sample_indices(count: int, most: int) -> list[int]:
    """Return at most `most` indices below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def examine_files(files: list[Path], decoded: int, normalised: bool) -> Part:
    """Return the formats of the files, and lines on the odd ones.

    Args:
        files: the images of a split.
        decoded: the largest number of files to decode.
        normalised: intensities are normalised by percentiles, so low contrast is not reported.
    """
    kinds: Counter[str] = Counter()
    odd: dict[str, list[str]] = defaultdict(list)
    whole = {files[index] for index in sample_indices(len(files), decoded)}
    for file in [files[index] for index in sample_indices(len(files), MAX_HEADERS)]:
        try:
            # Pillow reads the end of a file for some of its headers
            with lift_pixel_limit(), decoding(file), open_image(file) as image:
                kinds[f"{image.format} {image.mode}"] += 1
                for oddity in [
                    *header_oddities(image),
                    *(content_oddities(image, file, normalised) if file in whole else []),
                ]:
                    odd[oddity].append(file.name)
        except UserError:
            odd["that do not decode"].append(file.name)
    kind = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common())
    return Part(
        {"image files": kind},
        [line for oddity, names in odd.items() for line in report_some(names, f"images {oddity}")],
    )


def header_oddities(image: Image.Image) -> list[str]:
    """Return what another viewer or another page of the file would show differently."""
    found = []
    if image.getexif().get(ORIENTATION, 1) != 1:
        found.append("with an EXIF orientation: are the masks sample_indices upright?")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        found.append("of several pages")
    return found


def content_oddities(image: Image.Image, file: Path, normalised: bool) -> list[str]:
    """Return what is unlikely in an image that shows something."""
    values = decode(image, file).astype(np.float32)
    alpha = values[..., -1] if image.mode in ("RGBA", "LA") else None
    values = values if values.ndim == 2 else values[..., : 1 if image.mode == "LA" else 3].mean(-1)
    top = 65535 if image.mode in DEEP_MODES else 255
    low, high = np.percentile(values, (1, 99))
    found = []
    if values.min() == values.max():
        found.append("of one value")
    elif high - low < LEAST_RANGE * top / 255 and not normalised:
        found.append("of nearly no contrast: data.percentile_range=[1,99.8] makes the most of it")
    if (values >= top).mean() > WHITE_SHARE:
        found.append(f"with over {WHITE_SHARE:.0%} of white pixels")
    if alpha is not None and alpha.min() < 255:
        found.append("whose alpha hides pixels")
    return found


def find_duplicates(splits: dict[str, list[Path]]) -> list[str]:
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
                by_content[length, hashlib.sha256(stream.read(HASHED_BYTES)).digest()].append((split, file))
    pairs = [(group[0], other) for group in by_content.values() for other in group[1:]]
    same_split = [f"{one[1].name} and {other[1].name}" for one, other in pairs if one[0] == other[0]]
    across = [
        f"{one[1].name} ({one[0]}) and {other[1].name} ({other[0]})"
        for one, other in pairs
        if one[0] != other[0]
    ]
    return report_some(same_split, "pairs of images with the same content") + report_some(
        across, "images that are in two splits"
    )
