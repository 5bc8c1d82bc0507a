"""A TCP proxy in front of PostgreSQL, in a process of its own, that fails in the ways in which networks fail."""

import asyncio
import multiprocessing
import random
from typing import Any

from attrs import frozen

COMMIT = b"COMMIT\0"
"""The end of the message with which the server's driver asks for a commit."""


@frozen
class Behaviour:
    """What a proxy does to what it passes on.

    *silent*: it takes connections and bytes and passes none on. *delay*: seconds by which it passes on everything later. *cut*: where it
    cuts connections: within an "answer" of the database (one of five), before a "commit" reaches the database, or after the database has
    "committed" and before the server is told so.
    """

    silent: bool = False
    delay: float = 0.0
    cut: str = ""


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to *target*, another port there."""

    def __init__(self, target: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, target), daemon=True)
        self._process.start()
        self.port = int(self._answer())

    def _answer(self) -> Any:
        if not self._control.poll(30):
            raise AssertionError("the proxy does not answer")
        return self._control.recv()

    def behave(self, behaviour: Behaviour) -> None:
        """Returns when it behaves so."""
        self._control.send(behaviour)
        self._answer()

    def cut_all(self) -> None:
        """Closes every connection."""
        self._control.send("cut")
        self._answer()

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.join(10)


class _Relay:
    """The connections of a proxy."""

    def __init__(self, control: Any, target: int) -> None:
        self.control = control
        self.target = target
        self.behaviour = Behaviour()
        self.speaking = asyncio.Event()
        self.speaking.set()
        self.random = random.Random(1)
        self.writers: set[asyncio.StreamWriter] = set()

    def command(self) -> None:
        """Does what the other process asks for."""
        said = self.control.recv()
        if isinstance(said, Behaviour):
            self.behaviour = said
            if said.silent:
                self.speaking.clear()
            else:
                self.speaking.set()
        else:
            for writer in list(self.writers):
                writer.transport.abort()
        self.control.send("done")

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_database, to_database = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, to_database)
        self.writers.update(both)
        told = asyncio.Event()
        ways = (self._pass_on(reader, to_database, both, told), self._answer(from_database, writer, both, told))
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in both:
                self.writers.discard(each)
                each.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(65536)
        if data and self.behaviour.delay:
            await asyncio.sleep(self.behaviour.delay)
        await self.speaking.wait()
        return data

    async def _pass_on(self, reader: Any, writer: Any, both: Any, committing: asyncio.Event) -> None:
        """What the server sends to the database."""
        while data := await self._read(reader):
            if self.behaviour.cut in ("commit", "committed") and COMMIT in data:
                if self.behaviour.cut == "commit":
                    _abort(both)
                    return
                committing.set()
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: Any, writer: Any, both: Any, committing: asyncio.Event) -> None:
        """What the database sends to the server."""
        while data := await self._read(reader):
            if committing.is_set():
                _abort(both)
                return
            if self.behaviour.cut == "answer" and self.random.random() < 0.2:
                writer.write(data[: len(data) // 2])
                await writer.drain()
                _abort(both)
                return
            writer.write(data)
            await writer.drain()


def _abort(writers: Any) -> None:
    for writer in writers:
        writer.transport.abort()


def _run(control: Any, target: int) -> None:
    async def serve() -> None:
        relay = _Relay(control, target)
        server = await asyncio.start_server(relay.accept, "127.0.0.1", 0, backlog=1000)
        asyncio.get_running_loop().add_reader(control.fileno(), relay.command)
        control.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
