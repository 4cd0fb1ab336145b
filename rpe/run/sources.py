"""Which files a prediction is asked for."""

import glob
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from rpe.run.findings import PARTS
from rpe.structures import UserError


def image_files(images: Any) -> list[Path]:
    """The files that a file, a folder, a pattern, or a list of these names: of a folder all with an image's suffix, of a pattern none that a
    prediction has written.

    Raises:
        UserError: there is none.
    """
    Image.init()
    suffixes = {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}
    found: set[Path] = set()
    for name in [str(one) for one in images] if OmegaConf.is_list(images) else [str(images)]:
        path = Path(name)
        if path.is_dir():
            found |= {file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")}
        elif path.exists():
            found.add(path)
        else:
            matching = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207 (takes absolute patterns)
            found |= {file for file in matching if file.is_file() and not is_predicted(file)}
    if not found:
        raise UserError(f"images {images} names no image: name a file, a folder that holds some, or a pattern such as 'photos/**/*.png'")
    return sorted(found)


def is_predicted(file: Path) -> bool:
    """Whether a prediction has written it: a pattern such as photos/**/*.png must not find the answers in photos/found."""
    return file.parent.name in PARTS and (file.parent.parent / "predictions.yaml").is_file()
