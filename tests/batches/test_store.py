"""What is stored is there for the next server, and for its owner alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.batches.records import Batch, Result, StoredFile
from app.batches.store import Store, StoreThread
from app.errors import Unavailable

BATCH = Batch(
    id="batch_1",
    owner="ada",
    endpoint="/v1/embeddings",
    input_file_id="file-in",
    completion_window="24h",
    created_at=100,
    expires_at=200,
    output_ttl_s=50,
)


def file(file_id: str, *, owner: str = "ada", created_at: int = 1, expires_at: int | None = None) -> StoredFile:
    return StoredFile(
        id=file_id,
        owner=owner,
        filename="in.jsonl",
        purpose="batch",
        num_bytes=3,
        created_at=created_at,
        expires_at=expires_at,
    )


def add(store: Store, one: StoredFile) -> StoredFile:
    store.path_of(one.id).write_bytes(b"abc")
    store.add_file(one)
    return one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    made = Store(folder)
    yield made
    made.close()


def test_files_are_their_owners(store: Store) -> None:
    """In the order in which they came; another's is not there."""
    mine = [add(store, file("file-b")), add(store, file("file-a", created_at=2))]
    add(store, file("file-c", owner="bob"))
    assert store.files("ada") == mine
    assert store.file("file-b", "ada") == mine[0]
    assert store.file("file-b", "bob") is None
    assert store.num_bytes() == 9


def test_files_end_with_their_time(store: Store) -> None:
    """But not those that are in use."""
    for name in ("file-over", "file-used", "file-later"):
        add(store, file(name, expires_at=100 if name == "file-later" else 10))
    store.expire(10, kept={"file-used"})
    assert [one.id for one in store.files("ada")] == ["file-used", "file-later"]
    assert not store.path_of("file-over").exists()


def test_files_that_were_not_complete_are_gone_at_the_next_start(folder: Path) -> None:
    """Nobody was told of them."""
    store = Store(folder)
    kept = add(store, file("file-kept"))
    store.path_of("file-part").write_bytes(b"ab")
    store.close()
    store = Store(folder)
    assert not store.path_of("file-part").exists()
    assert store.path_of(kept.id).read_bytes() == b"abc"
    store.close()


def test_results_are_written_in_the_order_of_their_lines(store: Store) -> None:
    """Once each, and gone when the batch has ended; its record is what it was last."""
    store.put_batch(BATCH)
    assert store.unfinished() == [BATCH]
    results = [Result(line=line, has_failed=line == 2, text=b"%d" % line) for line in (3, 2, 1, 3)]
    store.put_results([(BATCH.id, one) for one in results])
    assert store.answered(BATCH.id) == {1: False, 2: True, 3: False}
    path = store.path_of("file-out")
    assert store.write_results(BATCH.id, has_failed=False, path=path) == 4
    assert path.read_bytes() == b"1\n3\n"
    ended = msgspec.structs.replace(BATCH, status="completed", output_file_id="file-out")
    store.finish(ended, [file("file-out")])
    assert (store.unfinished(), store.answered(BATCH.id)) == ([], {})
    assert (store.batch(BATCH.id, "ada"), store.batch(BATCH.id, "bob")) == (ended, None)
    assert store.batches("ada") == [ended]


def test_nothing_written_is_no_file(store: Store) -> None:
    """A batch without errors has no file of them."""
    path = store.path_of("file-none")
    assert store.write_results(BATCH.id, has_failed=True, path=path) == 0
    assert not path.exists()


async def test_one_server_has_the_folder(folder: Path) -> None:
    """The other says so, and has it when the first has ended."""
    first, second = StoreThread(folder), StoreThread(folder)
    await first.do(lambda store: store.put_batch(BATCH))
    with pytest.raises(Unavailable, match="--files-dir"):
        await second.do(Store.unfinished)
    await first.close()
    assert await second.do(Store.unfinished) == [BATCH]
    await second.close()


async def test_disk_that_does_not_do_it_is_unavailable(tmp_path: Path) -> None:
    """With its own reason."""
    (tmp_path / "taken").touch()
    store = StoreThread(tmp_path / "taken")
    with pytest.raises(Unavailable, match="cannot be kept in .*taken"):
        await store.do(Store.unfinished)
    await store.close()
