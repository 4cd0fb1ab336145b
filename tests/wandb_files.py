"""What wandb has written offline: the records of a `.wandb` file, read as its format says (LevelDB's log with a header of its own)."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class WandbFile:
    """One file: what the run is called, its config, the rows of its history, its last summary, and how it ended (None: it did not)."""

    id: str = ""
    project: str = ""
    group: str = ""
    sweep: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    begun: float = 0.0

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.history if name in row]


def records(content: bytes) -> Iterator[Record]:
    """A record may be cut into pieces, none of which crosses a block's end."""
    assert content.startswith(HEADER)
    place, whole = len(HEADER), b""
    while place + 7 <= len(content):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        assert kind in (FULL, FIRST, MIDDLE, LAST), kind
        piece = content[place + 7 : place + 7 + length]
        place += 7 + length
        whole = piece if kind in (FULL, FIRST) else whole + piece
        if kind in (FULL, LAST):
            yield Record.FromString(whole)


def values(items: Any) -> dict[str, Any]:
    """The updates of a config, a row or a summary; a nested key is a path."""
    found: dict[str, Any] = {}
    for item in items:
        path = list(item.nested_key) or [item.key]
        node = found
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = json.loads(item.value_json)
    return found


def read_wandb(file: Path) -> WandbFile:
    found = WandbFile()
    for record in records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.id, found.project, found.group, found.name, found.tags = (
                run.run_id,
                run.project,
                run.run_group,
                run.display_name,
                list(run.tags),
            )
            found.sweep = run.sweep_id
            found.begun = run.start_time.ToNanoseconds() / 1e9
            found.config |= values(run.config.update)
        elif kind == "config":
            found.config |= values(record.config.update)
        elif kind == "history":
            found.history.append(values(record.history.item))
        elif kind == "summary":
            found.summary |= values(record.summary.update)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def wandb_files(folder: Path) -> list[WandbFile]:
    """All below a folder, in the order in which they were begun. A run that has ended may still be on its way to the disk, in wandb's own process,
    which is therefore ended first."""
    wandb.teardown()
    return [
        read_wandb(file)
        for file in sorted(folder.rglob("*.wandb"), key=lambda file: (file.parent.name, file))
    ]
