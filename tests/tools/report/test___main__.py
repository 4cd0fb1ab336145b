import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_sweep import write_point, write_sweep

from rpe.errors import UserError
from rpe.tools.report.__main__ import main


def outside(page: str) -> list[str]:
    """What a browser would fetch."""
    return [
        address
        for address in re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)|@import", page)
        if not "".join(address).startswith("data:")
    ]


def test_of_two_hundred_run_folders_all_that_is_broken_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = write_sweep(tmp_path, 200)
    assert main([f"sweep={tmp_path}"]) == 0
    lines = (tmp_path / "report.md").read_text().splitlines()
    for name, words in said.items():
        assert any(line.startswith(f"- {name}") and words in line for line in lines), (name, words)
    assert sum(line.startswith("- ") for line in lines) == len(said)
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 201
    page = (tmp_path / "report.html").read_text()
    assert not outside(page) and len(page) < 10e6 and all(name in page for name in said)
    assert page.count("data:image/png") == 4 and page.count("data:image/jpeg") == 40
    assert {file.name for file in (tmp_path / "report").iterdir()} == {
        "embedding.dimension.png",
        "loss.pairwise.margin.png",
        "heat-map.png",
        "training.png",
    }
    assert "best by AR@10: embedding.dimension=8, loss.pairwise.margin=0.5: 0.5" in capsys.readouterr().out


def test_pictures_that_begin_well_and_end_badly(tmp_path: Path) -> None:
    write_point(tmp_path / "a", {"embedding.dimension": 3, "loss.pairwise.margin": 0.5, "seed": 0})
    file = tmp_path / "a" / "pictures" / "val-1.png"
    file.write_bytes(file.read_bytes()[:300])
    main([f"sweep={tmp_path}"])
    assert "- a: pictures/val-1.png cannot be read" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg") == 1


def test_a_sweep_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"commands": ["a"], "jobs": {"a": {"seed": 0, "x": 1}, "b": {"seed": 1, "x": 2}}})
    )
    assert main([f"sweep={tmp_path}"]) == 0
    assert "2 jobs: 2 pending." in (tmp_path / "report.md").read_text()


def test_names_are_escaped(tmp_path: Path) -> None:
    write_point(
        tmp_path / "a",
        {"embedding.dimension": 3, "loss.pairwise.margin": "<script>|", "seed": 0}
        | {"loss.pairwise.margin": 0.5},
    )
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"commands": ["<script>x</script>"], "jobs": {"a": {"k": "<b>|"}, "b": {"k": 1}}})
    )
    main([f"sweep={tmp_path}"])
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>|" not in page
    assert "| <b>/ |" in (tmp_path / "report.md").read_text()


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sweep must be a folder that train.py -m wrote, got none"):
        main([])
    with pytest.raises(UserError, match="sweep must be a folder that train.py -m wrote, got "):
        main(["sweep=nowhere"])


def test_it_starts_without_torch() -> None:
    program = "import sys, rpe.tools.report.__main__; raise SystemExit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", program], check=False, cwd=Path(__file__).parent.parent.parent.parent
        ).returncode
        == 0
    )
