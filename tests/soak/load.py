"""The clients of a soak. Each of them sends one request after the other, judges each answer, and remembers what it has written."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen, mutable

from tests.daemon import TOKEN
from tests.soak.servers import EMAIL, LIMITED_TOKEN, NOTES, PASSWORD, PROJECTS, Servers

PATIENCE = 60.0
"""Seconds within which each request has an answer."""

GRACE = 20.0
"""Seconds after a fault within which a list that has begun before may still break off."""

PAUSE = 0.04
"""Half the seconds, on average, between two requests of a client: the clients shall not be what the machine is busy with."""

OWN = 20
"""Items of each collection and project that a client goes on to write."""

DONE = frozenset({200})
GONE = frozenset({200, 204})


@frozen
class Write:
    """A write that was asked for. It is there if `acknowledged`, and else wholly or not at all: *revisions* are the numbers of revisions
    that it leaves in each collection, *deleted* the collection and key of the item that it deletes."""

    name: str
    project: str
    revisions: Mapping[str, int] = field(factory=dict)
    deleted: tuple[str, int] | None = None
    acknowledged: bool = False


@frozen
class Wrong:
    """An answer that no fault may cause."""

    at: float
    during: str
    what: str
    request: str
    detail: str


@mutable
class Item:
    """An item that a client has made. `op` is the name of its last write, or None where that is not known."""

    key: int
    op: str | None
    members: list[int] = field(factory=list)


@mutable
class Tally:
    """What all clients together have seen."""

    statuses: Counter[tuple[str, str, str]] = field(factory=Counter)
    """By fault ("" between two), kind of request, and status or "cut"."""
    wrong: list[Wrong] = field(factory=list)
    writes: list[Write] = field(factory=list)
    slowest: tuple[float, str] = (0.0, "")


@frozen
class Answer:
    """What a client has received. The status is 0 where the connection was cut and may have been."""

    status: int
    body: bytes = b""

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]


class Load:
    """Clients that run until they are told to stop."""

    def __init__(self, servers: Servers, seed: int, clients: int = 16) -> None:
        self.servers = servers
        self.tally = Tally()
        self.lock = threading.Lock()
        self.running = threading.Event()
        self.stopped = False
        self.during = ""
        """The name of the fault that lasts."""
        self._clients = [Client(self, seed, number) for number in range(clients)]
        self._threads = [threading.Thread(target=client.run, daemon=True) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def go(self) -> None:
        self.running.set()

    def pause(self) -> None:
        """Returns when no client has a request or a connection open."""
        self.running.clear()
        until = time.monotonic() + 2 * PATIENCE
        while not all(
            client.resting or not thread.is_alive() for client, thread in zip(self._clients, self._threads, strict=True)
        ):
            assert time.monotonic() < until, "clients do not come to an end"
            time.sleep(0.02)

    def stop(self) -> None:
        self.pause()
        self.stopped = True
        self.running.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def broken(self, started: float) -> bool:
        """Whether a list whose reading began then may have broken off."""
        now = time.monotonic()
        return any(window.overlaps(started, now, GRACE) for window in list(self.servers.windows))


class Client:
    """One client, with keep-alive connections to every process."""

    def __init__(self, load: Load, seed: int, number: int) -> None:
        self.load = load
        self.number = number
        self.random = random.Random(f"{seed} {number}")
        self.resting = True
        self.turn = 0
        self.connections: dict[int, tuple[http.client.HTTPConnection, float, float]] = {}
        """By process: the connection, when it was opened, and when it was used last."""
        self.items: dict[tuple[str, str], list[Item]] = {}
        self.extra: dict[str, bool | None] = dict.fromkeys(PROJECTS, False)
        """Whether this client's field is there; None where that is not known."""

    def run(self) -> None:
        kinds = [kind for kind, weight in KINDS.items() for _ in range(weight)]
        try:
            while True:
                self._rest()
                if self.load.stopped:
                    return
                self.turn += 1
                project = self.random.choices(PROJECTS, (6, 3, 1))[0]
                self.random.choice(kinds)(self, project)
                time.sleep(self.random.random() * 2 * PAUSE)
        except BaseException as error:
            self._note_wrong("the client failed", "", repr(error))
            raise
        finally:
            self.resting = True

    def _rest(self) -> None:
        if self.load.running.is_set():
            self.resting = False
            return
        for connection, _, _ in self.connections.values():
            connection.close()
        self.connections.clear()
        self.resting = True
        self.load.running.wait()
        self.resting = False

    # requests

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str,
        expected: frozenset[int] = DONE,
        token: str | None = TOKEN,
        content_type: str = "application/json",
        streamed: bool = False,
    ) -> Answer:
        """Sends a request to one of the processes, and judges the answer: its status must be one of *expected*, or 503 with Retry-After."""
        server = self.random.randrange(len(self.load.servers.daemons))
        headers = {"Authorization": f"bearer {token}"} if token else {}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = content_type
        started = time.monotonic()
        connection, opened = self._connection(server, started)
        status, content, retry, cut = 0, b"", None, ""
        during = self.load.during
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            status, retry = answer.status, answer.getheader("Retry-After")
            content = answer.read()
        except (http.client.HTTPException, OSError) as error:
            cut = f"{type(error).__name__}: {error}"
        if cut or answer.will_close or self.random.random() < 0.1:
            self._drop(server)
        else:
            self.connections[server] = (connection, opened, time.monotonic())
        taken = time.monotonic() - started
        request = f"{method} {path} to process {server}, after {taken:.2f} s"
        said = str(status) if not cut else "cut"
        with self.load.lock:
            self.load.tally.statuses[during or self.load.during, kind, said] += 1
            if taken > self.load.tally.slowest[0]:
                self.load.tally.slowest = (taken, request)
        if cut:
            allowed = self.load.servers.cut(server, opened, started) or (streamed and self.load.broken(started))
            if not allowed:
                self._note_wrong(f"cut with status {status}: {cut}", request, content[-200:].decode(errors="replace"))
            return Answer(0)
        if status == 503 and not (retry and retry.isdigit() and int(retry) > 0):
            self._note_wrong("503 without Retry-After", request, content[:300].decode(errors="replace"))
        elif status not in expected and status != 503:
            self._note_wrong(f"status {status}", request, content[:300].decode(errors="replace"))
        return Answer(status, content)

    def _connection(self, server: int, now: float) -> tuple[http.client.HTTPConnection, float]:
        found = self.connections.get(server)
        if found is not None and now - found[2] < 20:
            return found[0], found[1]
        self._drop(server)
        made = http.client.HTTPConnection("127.0.0.1", self.load.servers.daemons[server].port, timeout=PATIENCE)
        self.connections[server] = (made, now, now)
        return made, now

    def _drop(self, server: int) -> None:
        found = self.connections.pop(server, None)
        if found is not None:
            found[0].close()

    def _note_wrong(self, what: str, request: str, detail: str) -> None:
        with self.load.lock:
            self.load.tally.wrong.append(Wrong(time.monotonic(), self.load.during, what, request, detail))

    def _check(self, condition: bool, what: str, answer: Answer, request: str) -> None:
        if not condition:
            self._note_wrong(what, request, answer.body[:300].decode(errors="replace"))

    # reads

    def read_one(self, project: str) -> None:
        """Its own items are as it has written them last, whichever process it asks."""
        mine = self.items.get((project, "authors"))
        if not mine:
            return
        item = self.random.choice(mine)
        path = f"/{project}/items/authors/{item.key}"
        answer = self.ask("GET", path, kind="one item")
        if answer.status == 200 and item.op is not None:
            self._check(answer.data["op"] == item.op, f"not as written last ({item.op})", answer, path)

    def read_flat(self, project: str) -> None:
        self.ask("GET", f"/{project}/items/articles?limit=20&offset={self.random.randrange(50)}", kind="flat list")

    def read_nested(self, project: str) -> None:
        fields = "fields=*,articles.*,articles.tags.tag.*"
        self.ask("GET", f"/{project}/items/authors?limit=10&sort=-id&{fields}", kind="nested list")

    def read_filtered(self, project: str) -> None:
        name = self.random.randrange(20)
        query = f"filter[author.name][contains]={name}&filter[views][gt]=5&sort=-views&limit=10&meta=*&fields=*,author.*"
        self.ask("GET", f"/{project}/items/articles?{query}", kind="filtered list")

    def search(self, project: str) -> None:
        self.ask("GET", f"/{project}/items/notes?q=word%20{self.random.randrange(NOTES)}&limit=5", kind="search")

    def aggregate(self, project: str) -> None:
        self.ask("GET", f"/{project}/items/articles?aggregate[count]=*&aggregate[max]=views&groupby=author", kind="aggregate")

    def read_history(self, project: str) -> None:
        """The last revision of its own item is as it has written it last."""
        mine = self.items.get((project, "authors"))
        if not mine:
            return
        item = self.random.choice(mine)
        path = f"/{project}/items/authors/{item.key}/revisions?sort=-id&limit=1"
        answer = self.ask("GET", path, kind="history")
        if answer.status == 200 and item.op is not None:
            self._check(answer.data[0]["data"]["op"] == item.op, f"not as written last ({item.op})", answer, path)

    def read_all(self, project: str) -> None:
        """A list that is sent while it is read is whole, or its connection is cut."""
        path = f"/{project}/items/notes?limit=-1"
        answer = self.ask("GET", path, kind="streamed list", streamed=True)
        if answer.status == 200:
            self._check(len(answer.data) == NOTES, "not all items", answer, path)

    def export(self, project: str) -> None:
        path = f"/{project}/items/notes?limit=-1&export=csv&fields=id,title"
        answer = self.ask("GET", path, kind="export", streamed=True)
        if answer.status == 200:
            self._check(answer.body.count(b"\n") == NOTES + 1, "not all items", answer, path)

    def read_limited(self, project: str) -> None:
        self.ask("GET", f"/{project}/items/notes?limit=5", kind="limited", expected=frozenset({200, 403}), token=LIMITED_TOKEN)
        self.ask("GET", f"/{project}/items/authors?limit=5", kind="refused", expected=frozenset({403}), token=LIMITED_TOKEN)

    def sign_in(self, project: str) -> None:
        right = self.random.random() < 0.7
        body = {"email": EMAIL, "password": PASSWORD if right else "wrong"}
        expected = DONE if right else frozenset({401, 404, 422, 429})
        self.ask("POST", f"/{project}/auth/authenticate", body, kind="sign-in", expected=expected, token=None)

    def upload(self, project: str) -> None:
        """A form without a file, sent where only JSON or no POST is expected."""
        body = b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\nnothing\r\n--x--\r\n'
        refused = frozenset({400, 401, 403, 404, 405, 415, 422})
        content_type = "multipart/form-data; boundary=x"
        self.ask("POST", f"/{project}/files", body, kind="upload", expected=refused, content_type=content_type)

    # changes of permissions and fields

    def set_permission(self, project: str) -> None:
        path = f"/{project}/permissions/{self.load.servers.permissions[project]}"
        self.ask("PATCH", path, {"read": self.random.choice(["full", "none"])}, kind="permission")

    def change_fields(self, project: str) -> None:
        """Makes a field of its own where it is not there, and deletes it where it is."""
        name, there = f"extra_{self.number}", self.extra[project]
        doubt = frozenset({400, 404, 409, 422}) if there is None else frozenset()
        if not there:
            payload = {"field": name, "type": "string", "datatype": "VARCHAR", "length": 20}
            answer = self.ask("POST", f"/{project}/fields/articles", payload, kind="field", expected=DONE | doubt)
        else:
            answer = self.ask("DELETE", f"/{project}/fields/articles/{name}", kind="field", expected=GONE | doubt)
        if there is None:
            # Whatever it was before, it is there now where the answer says so, or that it was there already.
            self.extra[project] = True if answer.status in (200, 400, 409, 422) else None
        else:
            self.extra[project] = (not there) if answer.status in GONE else None

    # writes

    def _name(self) -> str:
        return f"{self.number}-{self.turn}"

    def _write(self, project: str, name: str, answer: Answer, revisions: Mapping[str, int]) -> bool:
        done = answer.status == 200
        self.load.tally.writes.append(Write(name, project, revisions, acknowledged=done))
        return done

    def _keep(self, project: str, collection: str, *items: Item) -> None:
        kept = self.items.setdefault((project, collection), [])
        kept += items
        del kept[:-OWN]

    def create(self, project: str) -> None:
        name = self._name()
        body = {"name": name, "op": name, "views": self.random.randrange(100)}
        answer = self.ask("POST", f"/{project}/items/authors", body, kind="create")
        if self._write(project, name, answer, {"authors": 1}):
            self._keep(project, "authors", Item(answer.data["id"], name))

    def create_nested(self, project: str) -> None:
        name = self._name()
        body = nested(self.random, name)
        fields = "fields=id,articles.id"
        answer = self.ask("POST", f"/{project}/items/authors?{fields}", body, kind="create nested")
        if self._write(project, name, answer, NESTED):
            made = answer.data
            self._keep(project, "authors", Item(made["id"], name, [each["id"] for each in made["articles"]]))

    def create_batch(self, project: str) -> None:
        name = self._name()
        body = [{"title": f".{name} {n}", "op": name, "views": self.random.randrange(100)} for n in range(5)]
        answer = self.ask("POST", f"/{project}/items/articles?fields=id", body, kind="create batch")
        if self._write(project, name, answer, {"articles": 5}):
            self._keep(project, "articles", *(Item(each["id"], name) for each in answer.data))

    def create_padded(self, project: str) -> None:
        """A body that is larger than what is kept in memory."""
        name = self._name()
        body = json.dumps({"name": name, "op": name}).encode() + b" " * 300_000
        answer = self.ask("POST", f"/{project}/items/authors", body, kind="create padded")
        if self._write(project, name, answer, {"authors": 1}):
            self._keep(project, "authors", Item(answer.data["id"], name))

    def update(self, project: str) -> None:
        mine = self.items.get((project, "authors"))
        if not mine:
            return
        name, item = self._name(), self.random.choice(mine)
        body = {"op": name, "views": self.random.randrange(100)}
        answer = self.ask("PATCH", f"/{project}/items/authors/{item.key}", body, kind="update")
        item.op = name if self._write(project, name, answer, {"authors": 1}) else None

    def update_nested(self, project: str) -> None:
        mine = [item for item in self.items.get((project, "authors"), ()) if item.members]
        if not mine:
            return
        name, item = self._name(), self.random.choice(mine)
        members = [{"id": self.random.choice(item.members), "op": name}, {"op": name, "title": f". {name}"}]
        answer = self.ask(
            "PATCH", f"/{project}/items/authors/{item.key}", {"op": name, "articles": members}, kind="update nested"
        )
        item.op = name if self._write(project, name, answer, {"authors": 1, "articles": 2}) else None

    def update_batch(self, project: str) -> None:
        mine = self.items.get((project, "articles"), [])
        if len(mine) < 3:
            return
        name, items = self._name(), self.random.sample(mine, 3)
        keys = ",".join(str(item.key) for item in items)
        answer = self.ask("PATCH", f"/{project}/items/articles/{keys}", {"op": name, "views": 7}, kind="update batch")
        done = self._write(project, name, answer, {"articles": 3})
        for item in items:
            item.op = name if done else None

    def delete(self, project: str) -> None:
        mine = self.items.get((project, "articles"))
        if not mine:
            return
        item = mine.pop(self.random.randrange(len(mine)))
        answer = self.ask("DELETE", f"/{project}/items/articles/{item.key}", kind="delete", expected=GONE)
        done = answer.status in GONE
        self.load.tally.writes.append(Write(self._name(), project, deleted=("articles", item.key), acknowledged=done))
        if done:
            self.ask("GET", f"/{project}/items/articles/{item.key}", kind="deleted item", expected=frozenset({404}))


NESTED = {"authors": 1, "articles": 3, "articles_tags": 6}
"""The revisions of what `nested` gives."""


def nested(random: random.Random, name: str) -> dict[str, Any]:
    """The payload of an author with three articles of two tags each."""
    articles = [
        {"title": f"{name}. {n}", "op": name, "tags": [{"op": name, "tag": tag} for tag in random.sample(range(1, 11), 2)]}
        for n in range(3)
    ]
    return {"name": name, "op": name, "views": random.randrange(100), "articles": articles}


KINDS: Mapping[Callable[[Client, str], None], int] = {
    Client.read_one: 12,
    Client.read_flat: 8,
    Client.read_nested: 8,
    Client.read_filtered: 6,
    Client.search: 3,
    Client.aggregate: 1,
    Client.read_history: 3,
    Client.read_all: 2,
    Client.export: 2,
    Client.read_limited: 4,
    Client.sign_in: 1,
    Client.upload: 1,
    Client.set_permission: 1,
    Client.change_fields: 1,
    Client.create: 8,
    Client.create_nested: 6,
    Client.create_batch: 4,
    Client.create_padded: 1,
    Client.update: 10,
    Client.update_nested: 5,
    Client.update_batch: 4,
    Client.delete: 3,
}
"""What clients do, by how often they do it."""
