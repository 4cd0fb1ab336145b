"""Hold the rows of a COCO results file in columns, as millions of dicts would fill the memory."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

ROW_NUMBERS = 5
"""Integers of a row: image_id, category_id, height, width, and where its counts end."""


class PackedRows(Sequence[dict[str, Any]]):
    """Rows with image_id, category_id, score and a compressed mask; their other keys are dropped.

    A row takes 48 bytes beside its counts. Each access makes a new dict, so that changes to it are lost.

    Raises:
        ValueError: a row has another form.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self.numbers, self.scores, self.counts = array("q"), array("d"), bytearray()
        for row in rows:
            if not self.append(row):
                raise ValueError(f"rows must have a category, a score and a compressed mask, got {row}.")

    def append(self, row: Any) -> bool:
        """Add a row if it has this form; return whether it has.

        A row with a `file_name` has not, as the name may decide its image.
        """
        try:
            mask, score = row["segmentation"], row["score"]
            values = [row["image_id"], row["category_id"], *mask["size"]]
            counts = mask["counts"].encode("ascii")
            plain = len(values) == ROW_NUMBERS - 1 and set(map(type, values)) == {int}
            if not plain or type(score) not in (int, float) or row.get("file_name") is not None:
                return False
            numbers = array("q", [*values, len(self.counts) + len(counts)])
            self.scores.append(score)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            return False
        self.numbers += numbers
        self.counts += counts
        return True

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, row: Any) -> Any:
        row = range(len(self))[row]
        first = ROW_NUMBERS * row
        image, category, height, width, end = self.numbers[first : first + ROW_NUMBERS]
        start = self.numbers[first - 1] if row else 0
        return {
            "image_id": image,
            "category_id": category,
            "segmentation": {"size": [height, width], "counts": self.counts[start:end].decode("ascii")},
            "score": self.scores[row],
        }
