"""Find the images that a prediction is given."""

import glob
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rpe.data.listed import count_suffixes, is_image
from rpe.errors import UserError
from rpe.run.prediction_writer import OUTPUT_FOLDERS


def image_files(images: Any) -> list[Path]:
    """Return the images that a file, a folder, a pattern, or a list of these names, sorted.

    A folder gives its files with an image's suffix. A pattern skips files that a prediction has written.

    Raises:
        UserError: no image was found.
    """
    found: set[Path] = set()
    for name in list_names(images):
        path = Path(name)
        if path.is_dir():
            found |= set(filter(is_image, path.iterdir()))
        elif path.exists():
            found.add(path)
        else:
            matching = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207 (takes absolute patterns)
            found |= {file for file in matching if file.is_file() and not is_predicted(file)}
    if not found:
        others = f" ({others} there)" if (others := count_other_files(images)) else ""
        raise UserError(
            f"images must name at least one image, got {images}{others}. "
            "Name a file, a folder of images, or a pattern such as 'photos/**/*.png'."
        )
    return sorted(found)


def list_names(images: Any) -> list[str]:
    """Return the names of a list, or the one name."""
    return [str(one) for one in images] if OmegaConf.is_list(images) else [str(images)]


def count_other_files(images: Any) -> str:
    """Count by suffix the files beside images in the folders; empty where there are none."""
    folders = [path for path in map(Path, list_names(images)) if path.is_dir()]
    return count_suffixes(
        sorted(
            file
            for folder in folders
            for file in folder.iterdir()
            if file.is_file() and not file.name.startswith(".") and not is_image(file)
        )
    )


def is_predicted(file: Path) -> bool:
    """Return whether a prediction wrote the file.

    A pattern such as photos/**/*.png must not find the output in photos/found.
    """
    return file.parent.name in OUTPUT_FOLDERS and (file.parent.parent / "predictions.yaml").is_file()
