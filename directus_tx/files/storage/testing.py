"""Checks that a storage does what `interfaces` says, for tests of storages. It needs no test framework.

Each check takes an empty storage, uses only what the interface has, and raises AssertionError, or another exception. With pytest and
pytest-twisted::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_storage(check, my_empty_storage):
        await check(my_empty_storage)
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from zope.interface.verify import verifyObject

from directus_tx.files.storage.interfaces import (
    PIECE,
    FileNotStored,
    FileReplaced,
    IFileStorage,
    InvalidName,
    IUpload,
    Stored,
    uploading,
)

INVALID = (
    *("", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/..", ".hidden", "a/.hidden"),
    *("a\\b", "a\x00b", "a\nb", "a b", "a=b", "=3f/a", "a:b", "a?b", "a#b", "a%2fb", "~a", "a" * 241, "/".join(["a" * 200] * 5)),
)
"""Texts that are no names."""

VALID = (
    *(
        "a",
        "A.TXT",
        "img_2020-1.png",
        "originals/harbour.jpg",
        "originals/a^b.txt",
        "a.b.c..d",
        "deep/er/and/deeper/x",
        "0",
        "-",
        "_",
    ),
    *("déjà-vu.pdf", "写真/東京.jpg", "a" * 240, "/".join(["b" * 170] * 5)),
)
"""Names of any kind."""

MULTIPART = 17 * 2**20 + 12345
"""The bytes of a large file, which a storage of objects stores in several parts."""


def content(size: int, seed: int = 0) -> bytes:
    """Returns bytes in which no two places are alike."""
    lines = size // 24 + 1
    return b"".join(b"%012d %010d\n" % (seed, number) for number in range(lines))[:size]


async def put(storage: Any, name: str, data: bytes, piece: int = PIECE) -> Stored:
    """Stores a file, in pieces of a size."""
    async with uploading(storage, name) as upload:
        for start in range(0, len(data), piece):
            await upload.write(data[start : start + piece])
        stored: Stored = await upload.finish()
        return stored


async def got(storage: Any, name: str, start: int = 0, end: int | None = None, version: str | None = None) -> bytes:
    """Returns what a storage has of a file."""
    return b"".join([piece async for piece in storage.read(name, start, end, version=version)])


async def names(storage: Any, prefix: str = "") -> list[str]:
    """Returns the names of the files, sorted."""
    return sorted([each.name async for each in storage.list(prefix)])


async def raises(error: type[Exception], work: Awaitable[Any]) -> None:
    """Asserts that *work* raises an error of a class."""
    try:
        await work
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


async def check_interface(storage: Any) -> None:
    """It has the attributes and methods of the interface, and its uploads have theirs."""
    verifyObject(IFileStorage, storage)
    assert re.fullmatch(r"[a-z0-9_.-]{1,50}", storage.adapter)
    upload = storage.begin("a")
    verifyObject(IUpload, upload)
    await upload.abort()


async def check_content(storage: Any) -> None:
    """What is written is what is read, at sizes around those of pieces and written in pieces of any size."""
    for number, size in enumerate((0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 300_001)):
        for piece in (997, PIECE, 10**9):
            if size // piece > 400:
                continue
            data = content(size, number)
            before = datetime.now(UTC) - timedelta(seconds=5)
            stored = await put(storage, "a/file.bin", data, piece)
            assert (stored.name, stored.size) == ("a/file.bin", size)
            assert before <= stored.modified <= datetime.now(UTC) + timedelta(seconds=5)
            assert await storage.describe("a/file.bin") == stored
            pieces = [piece async for piece in storage.read("a/file.bin")]
            assert b"".join(pieces) == data
            assert all(len(each) == PIECE for each in pieces[:-1])
            assert all(pieces)


async def check_large_file(storage: Any) -> None:
    """A file of many megabytes is stored in whole and read in ranges."""
    data = content(MULTIPART)
    assert (await put(storage, "large.bin", data)).size == MULTIPART
    assert await got(storage, "large.bin") == data
    for start, end in ((0, 10), (5 * 2**20 - 5, 5 * 2**20 + 5), (8 * 2**20 - 1, 16 * 2**20 + 1), (MULTIPART - 7, None)):
        assert await got(storage, "large.bin", start, end) == data[start:end]


async def check_ranges(storage: Any) -> None:
    """Ranges are cut at the end of the file and may be empty."""
    data = content(PIECE + 100)
    await put(storage, "a", data)
    edges = (0, 1, 99, PIECE - 1, PIECE, PIECE + 1, PIECE + 99, PIECE + 100, PIECE + 101, 10**12)
    for start in edges:
        for end in (*edges, None):
            expected = data[start : len(data) if end is None else end]
            assert await got(storage, "a", start, end) == expected, (start, end)
    await put(storage, "empty", b"")
    assert await got(storage, "empty") == b""
    assert await got(storage, "empty", 5, 9) == b""


async def check_missing_files(storage: Any) -> None:
    """What is not there cannot be read or renamed, and deleting it does nothing."""
    for name in ("a", "a/b/c"):
        assert await storage.describe(name) is None
        await raises(FileNotStored, got(storage, name))
        await raises(FileNotStored, got(storage, name, 5, 5))
        await raises(FileNotStored, storage.rename(name, "b"))
        await storage.delete(name)
    assert await names(storage) == []


async def check_names(storage: Any) -> None:
    """Every name is kept as it is, and is of one file."""
    for number, name in enumerate(VALID):
        await put(storage, name, content(10, number))
    assert await names(storage) == sorted(VALID)
    for number, name in enumerate(VALID):
        assert await got(storage, name) == content(10, number)
    for name in ("a.TXT", "a.txt", "IMG_2020-1.PNG"):
        assert await storage.describe(name) is None
    await put(storage, "a/b", b"below")
    assert await got(storage, "a/b") == b"below"
    assert await got(storage, "a") == content(10, 0)


async def check_invalid_names(storage: Any) -> None:
    """Names that could lead out of the storage, or are not the same everywhere, are refused by every method."""
    await put(storage, "fine", b"fine")
    for name in INVALID:
        try:
            storage.begin(name)
        except InvalidName:
            pass
        else:
            raise AssertionError(f"begin({name!r}) raised nothing")
        await raises(InvalidName, got(storage, name))
        await raises(InvalidName, storage.describe(name))
        await raises(InvalidName, storage.delete(name))
        await raises(InvalidName, storage.rename(name, "other"))
        await raises(InvalidName, storage.rename("fine", name))
        await raises(InvalidName, storage.signed_url(name, 60))
    assert await names(storage, "../") == await names(storage, "\x00") == await names(storage, "fine/..") == []
    assert await names(storage) == ["fine"]


async def check_replacing(storage: Any) -> None:
    """A new file takes the name at once: whoever reads the old one reads it to its end, and its version is no longer there."""
    old, new = content(5 * PIECE, 1), content(3 * PIECE, 2)
    first = await put(storage, "a", old)
    reading = storage.read("a", version=first.version)
    seen = [await anext(reading)]
    upload = storage.begin("a")
    await upload.write(new)
    assert await got(storage, "a") == old
    second = await upload.finish()
    assert first.version != second.version
    assert re.fullmatch(r"[!-~]+", second.version)
    assert await got(storage, "a", version=second.version) == new
    await raises(FileReplaced, got(storage, "a", version=first.version))
    try:
        seen += [piece async for piece in reading]
    except FileReplaced:
        pass
    else:
        assert b"".join(seen) == old
    await reading.aclose()


async def check_aborting(storage: Any) -> None:
    """An upload that is aborted leaves nothing, and what had the name keeps it."""
    for size in (0, 10, 4 * PIECE, MULTIPART):
        upload = storage.begin("never")
        await upload.write(content(size))
        await upload.abort()
        await upload.abort()
        assert await names(storage) == []
        await raises(Exception, upload.finish())
    await put(storage, "a", b"kept")
    upload = storage.begin("a")
    await upload.write(content(3 * PIECE))
    await upload.abort()
    assert await got(storage, "a") == b"kept"
    upload = storage.begin("b")
    await upload.write(b"b")
    await upload.finish()
    await upload.abort()
    assert await names(storage) == ["a", "b"]


async def check_cancelling(storage: Any) -> None:
    """An upload whose writing or finishing is cancelled leaves nothing once it is aborted."""
    for size in (10, 4 * PIECE, MULTIPART):
        for last in ("write", "finish"):
            upload = storage.begin("cancelled")
            await upload.write(content(size))
            work = Deferred.fromCoroutine(upload.write(content(4 * PIECE)) if last == "write" else upload.finish())
            work.cancel()
            try:
                await work
            except CancelledError:
                pass
            await upload.abort()
            if last == "write" or await storage.describe("cancelled") is None:
                assert await names(storage) == [], (size, last)
            await storage.delete("cancelled")


async def check_stopping_to_read(storage: Any) -> None:
    """A reader may stop at any piece, and while it waits for one."""
    data = content(20 * PIECE)
    await put(storage, "a", data)
    for number in range(3):
        reading = storage.read("a")
        for _ in range(number):
            await anext(reading)
        await reading.aclose()
        reading = storage.read("a")
        for _ in range(number):
            await anext(reading)
        step = Deferred.fromCoroutine(_next(reading))
        step.cancel()
        try:
            await step
        except CancelledError:
            pass
        await reading.aclose()
    assert await got(storage, "a") == data


async def _next(reading: Any) -> bytes:
    piece: bytes = await anext(reading)
    return piece


async def check_deleting(storage: Any) -> None:
    """A deleted file is gone, the others stay, and the name can be used again."""
    for name in ("a", "a/b", "c"):
        await put(storage, name, name.encode())
    await storage.delete("a")
    await storage.delete("a")
    assert await names(storage) == ["a/b", "c"]
    assert await storage.describe("a") is None
    await put(storage, "a", b"again")
    assert await got(storage, "a") == b"again"


async def check_renaming(storage: Any) -> None:
    """A renamed file has all its bytes under the new name only, also if that was another's."""
    data = content(3 * PIECE)
    await put(storage, "old.txt", data)
    await put(storage, "taken/new.txt", b"another")
    await storage.rename("old.txt", "old.txt")
    assert await got(storage, "old.txt") == data
    for source, target in (("old.txt", "Old.txt"), ("Old.txt", "deep/er/x.txt"), ("deep/er/x.txt", "taken/new.txt")):
        await storage.rename(source, target)
        assert await storage.describe(source) is None
        assert await got(storage, target) == data
    assert await names(storage) == ["taken/new.txt"]


async def check_listing(storage: Any) -> None:
    """All files are listed once, with what `describe` returns, by prefixes that may end within a segment."""
    expected = sorted(f"{directory}{number:03}.bin" for directory in ("", "o/", "o/p/", "op/", "q/r/s/") for number in range(25))
    for name in expected:
        await put(storage, name, name.encode())
    for prefix in (
        "",
        "o",
        "o/",
        "o/p",
        "o/p/",
        "o/p/00",
        "o/00",
        "0",
        "q/r/s/",
        "q/r/s/024.bin",
        "q/r/s/024.binx",
        "missing/",
        "Q",
    ):
        found = [each async for each in storage.list(prefix)]
        assert sorted(each.name for each in found) == [name for name in expected if name.startswith(prefix)], prefix
    for each in found:
        assert await storage.describe(each.name) == each
    listing = storage.list()
    await anext(listing)
    await listing.aclose()


async def check_many_at_once(storage: Any) -> None:
    """Many uploads and reads at once do not mix their bytes."""
    wanted = {f"many/{number}.bin": content(40_000 + number, number) for number in range(30)}
    await gatherResults([Deferred.fromCoroutine(put(storage, name, data, 9_999)) for name, data in wanted.items()])
    found = await gatherResults([Deferred.fromCoroutine(got(storage, name)) for name in wanted])
    assert dict(zip(wanted, found, strict=True)) == wanted
    uploads = [put(storage, "one", content(50_000, number), 5_000) for number in range(8)]
    await gatherResults([Deferred.fromCoroutine(each) for each in uploads])
    assert await got(storage, "one") in [content(50_000, number) for number in range(8)]


async def check_signed_url(storage: Any) -> None:
    """It is a URL, or None."""
    url = await storage.signed_url("a/b", 60, content_type="text/plain", disposition='attachment; filename="b.txt"')
    assert url is None or re.match(r"https?://", url)


CHECKS: tuple[Callable[[Any], Awaitable[None]], ...] = (
    check_interface,
    check_content,
    check_large_file,
    check_ranges,
    check_missing_files,
    check_names,
    check_invalid_names,
    check_replacing,
    check_aborting,
    check_cancelling,
    check_stopping_to_read,
    check_deleting,
    check_renaming,
    check_listing,
    check_many_at_once,
    check_signed_url,
)
"""All checks."""
