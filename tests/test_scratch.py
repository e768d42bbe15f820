"""Temporary files: what a killed process leaves is deleted by the next one, what a living one uses is not."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.faults import SetupFault
from tasks.scratch import folder_fault, process_folder, scratch_folder

# Makes a document's copy, says where, and goes on when a line comes.
_WORKER = """
import sys
from tasks.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "document").write_bytes(b"confidential")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, for this process and those it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def start(place: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path]]]:
    """Starts processes that are at work in a scratch folder of their own."""
    del place
    started: list[subprocess.Popen[str]] = []

    def begin() -> tuple[subprocess.Popen[str], Path]:
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(worker)
        assert worker.stdout is not None
        return worker, Path(worker.stdout.readline().strip())

    yield begin
    for worker in started:
        worker.kill()
        worker.communicate()


def test_what_a_killed_process_left_is_deleted_by_the_next(
    start: Callable[[], tuple[subprocess.Popen[str], Path]], place: Path
) -> None:
    killed, left = start()
    alive, used = start()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (left / "document").exists()
    process_folder()
    assert not left.parent.exists()
    assert (used / "document").read_bytes() == b"confidential"
    alive.communicate("\n")
    assert not used.parent.exists(), "a process that ends deletes its own"
    assert list(place.glob("bulk-ocr-*/*/document")) == []


def test_one_that_was_killed_before_it_had_its_lock_is_swept_too(place: Path) -> None:
    root = place / f"bulk-ocr-{os.getuid()}"
    root.mkdir(mode=0o700)
    (root / "half-made").mkdir()
    process_folder()
    assert not (root / "half-made").exists()


def test_the_folder_is_this_users_alone_and_made_again_when_a_cleaner_took_it(place: Path) -> None:
    first = process_folder()
    assert first == process_folder()
    assert (first.parent.stat().st_mode & 0o777, first.stat().st_mode & 0o777) == (0o700, 0o700)
    with scratch_folder() as folder:
        assert folder.is_relative_to(first)
    assert not folder.exists()
    (first / "lock").unlink()
    first.rmdir()
    assert process_folder().is_dir()
    assert process_folder().is_relative_to(place)


def test_a_folder_that_others_may_write_to_is_refused(place: Path) -> None:
    root = place / f"bulk-ocr-{os.getuid()}"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(SetupFault, match=f"the folder {root} is not yours alone: remove it, or set TMPDIR"):
        process_folder()


def test_a_forked_child_deletes_nothing_of_its_parent(place: Path) -> None:
    with scratch_folder() as folder:
        child = os.fork()
        if child == 0:
            own = process_folder()
            os._exit(0 if own != folder.parent else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert folder.exists()
        assert folder.is_relative_to(place)


def test_a_full_disk_is_the_set_up_and_names_the_folder(place: Path) -> None:
    told = rf"the folder {place}/.* cannot be written \(No space left on device\)"
    with pytest.raises(SetupFault, match=told), scratch_folder():
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(FileNotFoundError), scratch_folder() as folder:
        (folder / "missing").read_bytes()


def test_a_folder_that_cannot_be_made_is_the_set_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").write_bytes(b"")
    monkeypatch.setattr(tempfile, "tempdir", str(place / "file"))
    with pytest.raises(SetupFault, match="set TMPDIR to another"):
        process_folder()


def test_other_errors_are_not_the_disks() -> None:
    assert folder_fault(Path("/x"), OSError(5, "Input/output error")) is None


def test_without_any_temporary_folder_that_can_be_written_it_is_the_set_up() -> None:
    # Python writes a few bytes into each candidate; a process that may write none finds no folder, as on a read-only
    # file system without a mount for /tmp.
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from tasks.faults import SetupFault\n"
        "from tasks.scratch import process_folder\n"
        "try:\n    process_folder()\n"
        "except SetupFault as fault:\n    print(fault)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mount one at /tmp" in ran.stdout
