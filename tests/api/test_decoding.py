"""Processes that decode pictures: what they do to the server when they crash, hang, or take too much, and what is left of them."""

import io
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from PIL import Image
from twisted.internet import defer, reactor

from directus_tx.config import FileSettings
from directus_tx.files import decoding
from directus_tx.files.decoding import Decoder, DecoderFailed, Decoders
from directus_tx.files.resizing import NotResizable
from tests.api.test_files import picture, until
from tests.daemon import wait_for

ORDER = {"width": 20, "height": 10, "fit": "crop", "quality": 80, "encoding": "PNG", "focus": (0.5, 0.5), "pixels": 10_000}
SETTINGS = FileSettings(thumbnail_processes=2)


def program(fault: str) -> str:
    """The program of a process whose decoder does something else with the second picture, and with all after it."""
    return f"""
import ctypes, os, signal, sys, time
from directus_tx.files import decoder
number, resized = 0, decoder.resized
def made(*arguments):
    global number
    number += 1
    if number > 1:
        {fault}
    return resized(*arguments)
decoder.resized = made
decoder.run()"""


async def made(decoders: Decoders, content: bytes, **order: Any) -> bytes:
    async with decoders.lend(decoders.semaphore.ask()) as decoder:
        decoder.fill(content)
        size = await decoder.run({**ORDER, **order})
        return b"".join(decoder.result(size))


def children() -> dict[int, str]:
    """The state of the processes that this one has started, by id: Z for those that have ended and are still listed."""
    found = {}
    for each in pathlib.Path("/proc").iterdir():
        try:
            after = (each / "stat").read_text().rpartition(")")[2].split() if each.name.isdigit() else []
        except OSError:
            continue
        if after and int(after[1]) == os.getpid():
            found[int(each.name)] = after[0]
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest_twisted.ensureDeferred
async def test_a_process_is_used_again() -> None:
    decoders = Decoders(reactor, SETTINGS)
    before = children()
    contents = [picture(format, size) for format in ("PNG", "JPEG", "WEBP") for size in ((30, 20), (90, 70), (3, 1))]
    for content in [*contents, b"no picture", *reversed(contents)]:
        if content == b"no picture":
            with pytest.raises(NotResizable):
                await made(decoders, content)
        else:
            assert Image.open(io.BytesIO(await made(decoders, content))).size == (20, 10)
    (one,) = decoders.running
    assert children().keys() - before.keys() == {one.pid}
    assert one.pictures == 19
    await decoders.stop()
    assert children().keys() == before.keys()
    with pytest.raises(DecoderFailed):
        await made(decoders, contents[0])


@pytest_twisted.ensureDeferred
async def test_no_more_processes_than_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PICTURES", 3)
    decoders = Decoders(reactor, SETTINGS)
    seen = set()

    async def work() -> None:
        async with decoders.lend(decoders.semaphore.ask()) as decoder:
            seen.add(decoder.pid)
            decoder.fill(picture("PNG"))
            await decoder.run(ORDER)
            assert len([each for each in decoders.running if each.alive]) <= 2

    await defer.gatherResults([defer.Deferred.fromCoroutine(work()) for _ in range(12)])
    # None decodes more than three.
    assert len(seen) >= 4
    await decoders.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", NotResizable, "crash"),
        ("ctypes.string_at(0)", NotResizable, "crash"),
        ("os.abort()", NotResizable, "crash"),
        ("os._exit(3)", NotResizable, "crash"),
        ("while True: pass", NotResizable, "thumbnail_seconds"),
        ("held = bytearray(2**29)", NotResizable, "thumbnail_memory"),
        ("held = [bytearray(2**16) for _ in range(2**13)]", NotResizable, "thumbnail_memory"),
        ("os.kill(os.getpid(), signal.SIGKILL)", DecoderFailed, "killed"),
        ("time.sleep(1000)", DecoderFailed, "not been decoded"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", DecoderFailed, "not been decoded"),
        ("os.write(1, b'{}\\n')", DecoderFailed, "no answer"),
        ("os.write(1, b'{\"details\": {}}\\n')", DecoderFailed, "no answer"),
        ('os.write(1, b\'{"size": "7"}\\n\')', DecoderFailed, "no answer"),
        ("os.write(1, b'x' * 60000)", DecoderFailed, "no answer"),
        ("sys.stderr.write('x' * 10000000)\n        os.abort()", NotResizable, "crash"),
    ],
)
async def test_whatever_a_decoder_does_the_next_picture_is_decoded(
    fault: str, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = evolve(SETTINGS, thumbnail_processes=1, thumbnail_memory=2**28, thumbnail_seconds=1.0)
    decoders = Decoders(reactor, settings, program(fault))
    before, held = children(), descriptors()
    patience = 1 if told == "not been decoded" else 60
    for _ in range(2):
        monkeypatch.setattr(decoding, "PATIENCE", 60)
        assert await made(decoders, picture("PNG"))
        monkeypatch.setattr(decoding, "PATIENCE", patience)
        with pytest.raises(error, match=told):
            await made(decoders, picture("PNG"))
    await until(lambda: not decoders.running)
    assert children().keys() == before.keys()
    assert descriptors() == held
    await decoders.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("wrong", ["raise SystemExit(1)", "import no_such_module", "import os; os.abort()"])
async def test_a_process_that_cannot_start(wrong: str) -> None:
    decoders = Decoders(reactor, SETTINGS, wrong)
    held = descriptors()
    for _ in range(3):
        with pytest.raises(DecoderFailed, match="could not start") as raised:
            await made(decoders, picture("PNG"))
        assert raised.value.headers["Retry-After"] == "10"
    await until(lambda: not decoders.running)
    assert descriptors() == held
    await decoders.stop()


@pytest_twisted.ensureDeferred
async def test_processes_that_die_while_they_are_idle_are_replaced() -> None:
    decoders = Decoders(reactor, SETTINGS)
    for _ in range(3):
        assert await made(decoders, picture("PNG"))
        (one,) = decoders.running
        assert one.pid is not None
        os.kill(one.pid, signal.SIGKILL)
        await until(lambda: not decoders.running)
    await decoders.stop()


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_waits_for_no_decoder() -> None:
    decoders = Decoders(reactor, SETTINGS, program("time.sleep(1000)"))
    assert await made(decoders, picture("PNG"))
    work = defer.Deferred.fromCoroutine(made(decoders, picture("PNG")))
    await decoders.stop()
    with pytest.raises(DecoderFailed):
        await work
    assert decoders.running == []


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_given_up_ends_the_process() -> None:
    decoders = Decoders(reactor, SETTINGS, program("time.sleep(1000)"))
    assert await made(decoders, picture("PNG"))
    work = defer.Deferred.fromCoroutine(made(decoders, picture("PNG")))
    (one,) = decoders.running
    work.cancel()
    with pytest.raises(defer.CancelledError):
        await work
    await one.ended
    await decoders.stop()


@pytest_twisted.ensureDeferred
async def test_a_process_inherits_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("DIRECTUS_SUPER_ADMIN_TOKEN", "a-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    with (tmp_path / "private").open("wb") as private:
        os.set_inheritable(private.fileno(), True)
        decoders = Decoders(reactor, SETTINGS)
        assert await made(decoders, picture("PNG"))
        (one,) = decoders.running
        process = pathlib.Path(f"/proc/{one.pid}")
        assert b"a-secret" not in (process / "environ").read_bytes()
        assert not [each for each in (process / "fd").iterdir() if each.exists() and each.resolve() == tmp_path / "private"]
        assert int((process / "stat").read_text().rpartition(")")[2].split()[16]) >= 5
        await decoders.stop()


PARENT = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from tests.api.test_decoding import SETTINGS, made, program
from tests.api.test_files import picture
from directus_tx.files.decoding import Decoders

async def work():
    decoders = Decoders(reactor, SETTINGS, program(sys.argv[1]))
    await made(decoders, picture("PNG"))
    print(decoders.running[0].pid, flush=True)
    await made(decoders, picture("PNG"))

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()))
reactor.run()
"""


@pytest.mark.parametrize("fault", ["ctypes.CDLL(None).sleep(1000)", "ctypes.PyDLL(None).sleep(1000)", "time.sleep(1000)"])
def test_processes_end_with_a_server_that_is_killed(fault: str) -> None:
    """Also one that is in the middle of a decoder, which holds the interpreter's lock."""
    root = pathlib.Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, fault], stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert pathlib.Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def gone() -> bool:
        try:
            # Where the first process of the container does not wait for orphans, it stays as a zombie.
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_for(gone, 30)


@pytest_twisted.ensureDeferred
async def test_what_a_decoder_has_not_written_is_not_read() -> None:
    decoders = Decoders(reactor, SETTINGS)
    async with decoders.lend(decoders.semaphore.ask()) as decoder:
        decoder.fill(picture("PNG"))
        size = await decoder.run(ORDER)
        with pytest.raises(OSError, match="shorter"):
            list(decoder.result(size + 1))
    async with decoders.lend(decoders.semaphore.ask()) as again:
        assert again is decoder
        # Nothing is left of the picture and of its thumbnail.
        with pytest.raises(NotResizable):
            await again.run(ORDER)
        with pytest.raises(OSError, match="shorter"):
            list(again.result(1))
    await decoders.stop()
    assert isinstance(decoder, Decoder)


@pytest_twisted.ensureDeferred
async def test_a_process_that_is_killed_while_it_is_lent() -> None:
    decoders = Decoders(reactor, SETTINGS)
    for after in (False, True):
        async with decoders.lend(decoders.semaphore.ask()) as decoder:
            decoder.fill(picture("PNG"))
            size = await decoder.run(ORDER) if after else 1
            assert decoder.pid is not None
            os.kill(decoder.pid, signal.SIGKILL)
            await decoder.ended
            with pytest.raises(DecoderFailed):
                decoder.fill(b"more")
            with pytest.raises(DecoderFailed):
                list(decoder.result(size))
            with pytest.raises(DecoderFailed):
                await decoder.run(ORDER)
    assert await made(decoders, picture("PNG"))
    await decoders.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("fault", ["os.abort()", "raise MemoryError"])
async def test_a_picture_is_not_blamed_for_what_an_earlier_one_has_broken(fault: str) -> None:
    """The process crashes at its second picture, whichever that is."""
    decoders = Decoders(reactor, evolve(SETTINGS, thumbnail_processes=1), program(fault))

    async def work(decoder: Decoder) -> int:
        decoder.fill(picture("PNG"))
        return await decoder.run(ORDER)

    for _ in range(3):
        assert await decoders.decode(decoders.semaphore.ask(), work) > 0
        assert len([each for each in decoders.running if each.alive]) == 1
    await decoders.stop()
    # One that has had no other picture is to blame.
    decoders = Decoders(reactor, SETTINGS, program(fault).replace("number > 1", "number > 0"))
    with pytest.raises(NotResizable):
        await decoders.decode(decoders.semaphore.ask(), work)
    await decoders.stop()
