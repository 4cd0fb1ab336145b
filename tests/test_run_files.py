import subprocess
import sys
from pathlib import Path

import pytest

from rpe.errors import UserError
from rpe.run_files import changed_at_resume, open_whole, read_run, remember_changes, run_folder, write_whole


def test_a_run_is_its_config_and_what_resuming_changed(tmp_path: Path) -> None:
    written = "trainer: {max_epochs: 1, devices: 1}\nlogger: {csv: {a: 1}}\n"
    (tmp_path / "config.yaml").write_text(written)
    assert changed_at_resume(tmp_path) == {}
    remember_changes(tmp_path, {"trainer.max_epochs": 2, "logger": {"wandb": {"mode": "online"}}})
    remember_changes(tmp_path, {"trainer.max_epochs": 3})
    remember_changes(tmp_path, {})
    assert read_run(str(tmp_path)) == {
        "trainer": {"max_epochs": 3, "devices": 1},
        "logger": {"wandb": {"mode": "online"}},
    }
    assert (tmp_path / "config.yaml").read_text() == written


def test_folders_and_configs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="run folder must be one that train.py wrote, got .*nowhere, which does not exist"
    ):
        run_folder(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="which holds no config.yaml"):
        run_folder(str(tmp_path))
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="config.yaml must be as train.py wrote it, got invalid YAML"):
        read_run(str(tmp_path))
    (tmp_path / "config.yaml").write_text("text")
    with pytest.raises(UserError, match="config.yaml must be as train.py wrote it, got no settings"):
        read_run(str(tmp_path))


def test_write_whole_leaves_no_half(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", iter(["te", "", "xt"]))
    with pytest.raises(KeyboardInterrupt), open_whole(tmp_path / "file", "w") as stream:
        stream.write("half")
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_text() == "text" and len(list(tmp_path.iterdir())) == 1


def test_it_is_read_without_torch() -> None:
    program = "import sys, rpe.run_files, rpe.tools.command; raise SystemExit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", program], check=False, cwd=Path(__file__).parent.parent
        ).returncode
        == 0
    )
