"""A folder as a store: the same contract as S3's, between threads and between processes, for one user alone."""

import hashlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tasks.faults import DocumentChanged, SetupFault, Superseded, TransientFault
from tasks.job.record import DoneJob, Job, Request
from tasks.job.transitions import Change
from tasks.store.ledger import Ledger
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location
from tests.store.conftest import NOON, job
from tests.waiting import PATIENCE

KEYS = [
    "a", "a b.pdf", "a%20b.pdf", "a%_", "a_b", "aXb", "a/../b", "line\nbreak", "'quotes\"", "ümlaut", "日本.pdf", "😀",
    "~",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store lies."""
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Iterator[FolderObjects]:
    opened = FolderObjects(place)
    yield opened
    opened.close()


def body(store: FolderObjects, key: str = "a") -> bytes | None:
    """What is stored under a key."""
    stored = store.get("b", key)
    return None if stored is None else stored.body


def files(place: Path) -> list[str]:
    """The results that take up room, whether anybody knows of them or not."""
    return [path.name for path in place.iterdir() if path.is_file() and not path.name.startswith("objects.sqlite")]


def test_an_object_is_created_once(store: FolderObjects) -> None:
    etag = store.create("b", "a", b"first")
    assert etag is not None
    assert store.create("b", "a", b"second") is None
    stored = store.get("b", "a")
    assert stored is not None
    assert (stored.body, stored.etag) == (b"first", etag)
    assert store.create("another bucket", "a", b"second") is not None


def test_only_the_version_read_before_is_replaced(store: FolderObjects) -> None:
    first = store.create("b", "a", b"1") or ""
    second = store.replace("b", "a", b"2", first)
    assert second not in (None, first)
    assert store.replace("b", "a", b"3", first) is None
    assert body(store) == b"2"


def test_the_same_bytes_written_again_are_another_version(store: FolderObjects) -> None:
    first = store.create("b", "a", b"1") or ""
    assert store.replace("b", "a", b"1", first) not in (None, first)
    assert store.replace("b", "a", b"1", first) is None


def test_replacing_what_is_gone_does_not_bring_it_back(store: FolderObjects) -> None:
    etag = store.create("b", "a", b"1") or ""
    store.delete("b", "a")
    assert store.replace("b", "a", b"2", etag) is None
    assert not store.exists("b", "a")


def test_what_is_not_there_is_none(store: FolderObjects) -> None:
    assert store.get("b", "a") is None
    assert store.head("b", "a") is None
    assert not store.exists("b", "a")
    store.delete("b", "a")


def test_a_file_is_put_over_nothing_or_over_exactly_one_version(
    store: FolderObjects, place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"

    def put(content: bytes, over: str | None) -> bool:
        file.write_bytes(content)
        return store.put_file("b", "a", file, {"pages": content.decode()}, "application/json", over=over)

    assert put(b"1", None)
    assert not put(b"2", None)
    first = store.head("b", "a")
    assert first is not None
    assert (first.metadata, first.size) == ({"pages": "1"}, 1)
    assert put(b"33", first.etag)
    assert not put(b"4", first.etag)
    assert body(store) == b"33"
    assert len(files(place)) == 1, "what was written over, or lost its race, takes up no room"
    store.delete("b", "a")
    assert not put(b"5", first.etag)
    assert files(place) == []


def test_a_file_is_put_over_whatever_is_there_and_small_bodies_over_files(store: FolderObjects, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"streamed")
    store.put("b", "a", b"small", {}, "text/plain")
    with file.open("rb") as content:
        store.put("b", "a", content, {"pages": "3"}, "application/json")
    described = store.head("b", "a")
    assert described is not None
    assert (body(store), described.metadata, described.size) == (b"streamed", {"pages": "3"}, 8)
    store.put("b", "a", b"small", {}, "text/plain")
    assert body(store) == b"small"


@pytest.mark.parametrize("how", ["create", "replace", "put_file"])
def test_of_many_threads_one_wins(store: FolderObjects, tmp_path: Path, how: str) -> None:
    etag = (store.create("b", "a", b"start") or "") if how == "replace" else ""
    ready = threading.Barrier(8)

    def write(number: int) -> bool:
        file = tmp_path / f"{number}"
        file.write_bytes(b"%d" % number)
        ready.wait()
        if how == "create":
            return store.create("b", "a", b"%d" % number) is not None
        if how == "replace":
            return store.replace("b", "a", b"%d" % number, etag) is not None
        return store.put_file("b", "a", file, {}, "text/plain", over=None)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert sum(won) == 1
    assert body(store) == b"%d" % won.index(True)


_COUNT = """
import sys
from pathlib import Path
from tasks.store.local_folder import FolderObjects
store = FolderObjects(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
created = sum(store.create("b", f"once/{number}", b"") is not None for number in range(50))
for _ in range(50):
    while True:
        stored = store.get("b", "count")
        if store.replace("b", "count", b"%d" % (int(stored.body) + 1), stored.etag) is not None:
            break
print(created, flush=True)
"""


def test_of_processes_exactly_one_wins_and_no_count_is_lost(store: FolderObjects, place: Path) -> None:
    store.create("b", "count", b"0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _COUNT, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=PATIENCE)[0] for process in processes]
    assert sum(map(int, outputs)) == 50
    assert body(store, "count") == b"150"


def test_a_listing_is_by_prefix_in_the_order_of_bytes_whatever_the_keys(store: FolderObjects) -> None:
    for key in reversed(KEYS):
        store.create("b", key, key.encode())
    store.create("another bucket", "a", b"")
    listed = list(store.list("b", ""))
    assert [entry.key for entry in listed] == sorted(KEYS, key=str.encode)
    assert [entry.size for entry in listed] == [len(entry.key.encode()) for entry in listed]
    assert [entry.key for entry in store.list("b", "a%")] == ["a%20b.pdf", "a%_"]
    assert [entry.key for entry in store.list("b", "a_")] == ["a_b"]
    assert [entry.key for entry in store.list("b", "日")] == ["日本.pdf"]
    assert [entry.key for entry in store.list("b", "A")] == []
    for key in KEYS:
        described = store.head("b", key)
        assert body(store, key) == key.encode()
        assert described is not None
        assert described.etag == next(entry.etag for entry in listed if entry.key == key)


def test_exactly_the_version_asked_for_is_fetched(store: FolderObjects, tmp_path: Path) -> None:
    content, to = bytes(range(256)) * 8192, tmp_path / "to"
    (tmp_path / "file").write_bytes(content)
    assert store.put_file("b", "a", tmp_path / "file", {}, "application/json", over=None)
    small = store.create("b", "small", b"small") or ""
    large = store.head("b", "a")
    assert large is not None
    store.fetch("b", "a", large.etag, to)
    assert to.read_bytes() == content
    store.fetch("b", "small", small, to)
    assert to.read_bytes() == b"small"
    store.put("b", "a", b"next", {}, "text/plain")
    store.delete("b", "small")
    for key, etag in (("a", large.etag), ("small", small), ("never", "x")):
        with pytest.raises(DocumentChanged, match=key):
            store.fetch("b", key, etag, to)


def test_a_file_of_the_users_is_an_object_while_its_bytes_are_the_same(store: FolderObjects, tmp_path: Path) -> None:
    file, to = tmp_path / "file", tmp_path / "to"
    file.write_bytes(b"document")
    etag = hashlib.sha256(b"document").hexdigest()
    store.show("b", "a", file, etag)
    described = store.head("b", "a")
    assert described is not None
    assert (described.etag, described.size) == (etag, 8)
    store.fetch("b", "a", etag, to)
    assert to.read_bytes() == b"document"
    file.write_bytes(b"Document")
    with pytest.raises(DocumentChanged, match="changed"):
        store.fetch("b", "a", etag, to)
    file.unlink()
    with pytest.raises(DocumentChanged):
        store.fetch("b", "a", etag, to)
    assert store.head("b", "a") is None


def test_a_large_file_is_streamed_both_ways(store: FolderObjects, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50 << 20)
    tracemalloc.start()
    try:
        assert store.put_file("b", "a", tmp_path / "large", {}, "application/json", over=None)
        described = store.head("b", "a")
        assert described is not None
        store.fetch("b", "a", described.etag, tmp_path / "to")
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "to").stat().st_size == 50 << 20
    assert used < 10 << 20


def test_the_folder_is_for_its_user_alone_and_stays(store: FolderObjects, place: Path) -> None:
    assert place.stat().st_mode & 0o777 == 0o700
    store.create("b", "a", b"1")
    again = FolderObjects(place)
    assert body(again) == b"1"
    again.close()


def _loose(place: Path) -> None:
    place.mkdir()
    place.chmod(0o755)


def _linked(place: Path) -> None:
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


@pytest.mark.parametrize("prepare", [_loose, _linked])
def test_a_folder_that_somebody_else_may_have_made_is_refused(place: Path, prepare: Callable[[Path], None]) -> None:
    prepare(place)
    with pytest.raises(SetupFault, match=r"not yours alone.*TMPDIR"):
        FolderObjects(place)
    assert list(place.iterdir()) == []


def test_a_folder_of_another_user_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mkdir(mode=0o700)
    another = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: another)
    with pytest.raises(SetupFault, match="not yours alone"):
        FolderObjects(place)


@pytest.mark.parametrize("prepare", [lambda place: place.write_bytes(b""), lambda place: place.symlink_to("nowhere")])
def test_a_place_that_is_no_folder_is_the_set_up(place: Path, prepare: Callable[[Path], None]) -> None:
    prepare(place)
    with pytest.raises(SetupFault, match="TMPDIR"):
        FolderObjects(place)


def test_a_damaged_database_is_the_set_up(place: Path) -> None:
    place.mkdir(mode=0o700)
    (place / "objects.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(SetupFault, match=r"cannot be used.*not a database"):
        FolderObjects(place)


def test_a_full_disk_is_the_set_up_names_the_folder_and_leaves_nothing_half(
    store: FolderObjects, place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    assert store.put_file("b", "old", file, {}, "text/plain", over=None)
    old = store.head("b", "old")
    assert old is not None
    with _no_file_over(50_000):
        with pytest.raises(SetupFault, match=rf"the folder {place} cannot be written .*set TMPDIR to another"):
            store.put_file("b", "old", file, {}, "text/plain", over=old.etag)
        with pytest.raises(SetupFault, match=rf"the folder {tmp_path} cannot be written"):
            store.fetch("b", "old", old.etag, tmp_path / "to")
        with pytest.raises(SetupFault, match=rf"the folder {place} cannot be written"):
            store.create("b", "new", b"x" * 100_000)
    assert store.head("b", "old") == old
    assert not store.exists("b", "new")
    assert len(files(place)) == 1
    assert store.create("b", "new", b"x" * 100_000) is not None


class _no_file_over:  # noqa: N801 - reads as a sentence in its `with`
    """Files cannot grow over so many bytes: what a full disk is to whoever writes."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._most, self._before[1]))

    def __exit__(self, *_exception: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        signal.signal(signal.SIGXFSZ, self._handler)


def test_a_database_that_is_locked_for_too_long_is_a_fault_of_the_moment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.store.local_folder._PATIENCE", 0.05)
    impatient = FolderObjects(place)
    other = sqlite3.connect(place / "objects.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientFault, match="locked"):
        impatient.create("b", "a", b"")
    other.execute("ROLLBACK")
    assert impatient.create("b", "a", b"") is not None
    other.close()
    impatient.close()


def test_a_result_whose_file_was_cleaned_away_is_not_there(store: FolderObjects, place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"result")
    store.put_file("b", "a", tmp_path / "file", {}, "text/plain", over=None)
    described = store.head("b", "a")
    assert described is not None
    (place / files(place)[0]).unlink()
    assert (store.get("b", "a"), store.head("b", "a"), store.exists("b", "a")) == (None, None, False)
    with pytest.raises(DocumentChanged):
        store.fetch("b", "a", described.etag, tmp_path / "to")
    assert store.put_file("b", "a", tmp_path / "file", {}, "text/plain", over=None), "its place is free"


_WORK = """
import sys
from pathlib import Path
from tasks.store.local_folder import FolderObjects
store = FolderObjects(Path(sys.argv[1]))
store.enlist("worker")
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_worker_is_gone_when_its_process_is_however_it_ended(store: FolderObjects, place: Path) -> None:
    store.enlist("me")
    assert store.alone()
    assert not store.gone("me")
    assert not store.gone("never heard of"), "it may be at work where we cannot see it"
    with subprocess.Popen(
        [sys.executable, "-c", _WORK, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert not store.gone("worker")
        assert not store.alone()
        process.kill()
        process.wait(PATIENCE)
    assert store.gone("worker")
    assert store.alone()


def test_locks_of_long_ago_are_cleared_away_unless_they_are_held(store: FolderObjects, place: Path) -> None:
    store.enlist("long at work")
    ended = FolderObjects(place)
    ended.enlist("ended")
    ended.close()
    for path in (place / "workers").iterdir():
        os.utime(path, (0, 0))
    store.enlist("new")
    assert len(list((place / "workers").iterdir())) == 2
    assert not store.gone("long at work")


def _with_request(request: Request, current: Job) -> Change:
    return Change(current.model_copy(update={"requests": (*current.requests, request)}))


def test_the_ledger_keeps_its_promises_on_it(store: FolderObjects) -> None:
    ledger, ready = Ledger(store, Location("b", "out/")), threading.Barrier(4)
    new = job("ümlaut %_\n.pdf")

    def claim(_: int) -> object:
        ready.wait()
        return ledger.claim(new)

    with ThreadPoolExecutor(4) as pool:
        claims = [held_job for held_job in pool.map(claim, range(4)) if held_job is not None]
    held = ledger.read(new.id)
    assert claims == [held]
    assert held is not None

    def record(worker: int) -> None:
        ready.wait()
        for number in range(5):
            request = Request(id=f"{worker}.{number}", pages=None, submitted_at=NOON)
            ledger.amend(held, partial(_with_request, request))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, range(4)))
    current = ledger.read(new.id)
    assert current is not None
    assert len(current.job.requests) == 20
    with pytest.raises(Superseded):
        ledger.update(held, held.job)
    ledger.finish(current, DoneJob(job=current.job, pages=1, finished_at=NOON))
    assert ledger.claim(new) is None
    assert (ledger.read(new.id), ledger.done(new.id) is not None) == (None, True)


def test_it_needs_no_proof_of_conditional_writes(store: FolderObjects) -> None:
    store.prove_conditional_writes("b", "out/_jobs/")
    assert list(store.list("b", "")) == []
