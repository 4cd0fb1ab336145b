"""Which files a prediction is asked for."""

import glob
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from rpe.data.listed import count_suffixes
from rpe.run.prediction_writer import PARTS
from rpe.structures import UserError


def image_files(images: Any) -> list[Path]:
    """The files that a file, a folder, a pattern, or a list of these names: of a folder all with an image's suffix, of a pattern none that a
    prediction has written.

    Raises:
        UserError: there is none.
    """
    suffixes = image_suffixes()
    found: set[Path] = set()
    for name in names_of(images):
        path = Path(name)
        if path.is_dir():
            found |= {file for file in visible_files(path) if file.suffix.lower() in suffixes}
        elif path.exists():
            found.add(path)
        else:
            matching = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207 (takes absolute patterns)
            found |= {file for file in matching if file.is_file() and not is_predicted(file)}
    if not found:
        others = f" ({others} there)" if (others := left_out(images)) else ""
        raise UserError(
            f"images {images} names no image{others}: name a file, a folder that holds some, or a pattern such as 'photos/**/*.png'"
        )
    return sorted(found)


def names_of(images: Any) -> list[str]:
    """The one name, or those of a list."""
    return [str(one) for one in images] if OmegaConf.is_list(images) else [str(images)]


def image_suffixes() -> set[str]:
    """The suffixes of all formats that Pillow reads."""
    Image.init()
    return {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder that are not hidden."""
    return [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]


def left_out(images: Any) -> str:
    """Count by suffix the files that the named folders hold beside images; empty where there are none."""
    suffixes = image_suffixes()
    folders = [path for path in map(Path, names_of(images)) if path.is_dir()]
    return count_suffixes(
        sorted(
            file
            for folder in folders
            for file in visible_files(folder)
            if file.suffix.lower() not in suffixes
        )
    )


def is_predicted(file: Path) -> bool:
    """Whether a prediction has written it: a pattern such as photos/**/*.png must not find the answers in photos/found."""
    return file.parent.name in PARTS and (file.parent.parent / "predictions.yaml").is_file()
