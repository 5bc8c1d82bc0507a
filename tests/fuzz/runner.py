"""Sends the requests of a `Fuzz` to a daemon, and reports what a good server never does."""

import http.client
import pathlib
import time
from typing import Any

from attrs import field, mutable

from tests.daemon import TOKEN, Daemon
from tests.fuzz.requests import COLLECTIONS, LIMITED_ROLES, PROJECT, RELATIONS, Fuzz, Sent

TIMEOUT = 30.0


@mutable
class Report:
    """What came of it: `failures` are the requests answered 5xx, with the answer; `slowest` the seconds of the slowest; `memory` the
    resident size of the server in bytes, before and after; `statuses` counts answers by status."""

    failures: list[tuple[Sent, int, bytes]] = field(factory=list)
    slowest: tuple[float, Sent | None] = (0.0, None)
    memory: tuple[int, int] = (0, 0)
    statuses: dict[int, int] = field(factory=dict)


def prepare(daemon: Daemon) -> None:
    """Makes the project with its collections, a user a role, and some items."""
    daemon.create_project(PROJECT)
    for name, fields in COLLECTIONS.items():
        daemon.call("POST", f"/{PROJECT}/collections", {"collection": name, "fields": fields})
    for relation in RELATIONS:
        daemon.call("POST", f"/{PROJECT}/relations", relation)
    for role in LIMITED_ROLES:
        daemon.call("POST", f"/{PROJECT}/roles", {"name": f"role {role}"})
        user = {
            "email": f"u{role}@example.com",
            "password": "password",
            "role": role,
            "status": "active",
            "token": f"token-{role}",
        }
        daemon.call("POST", f"/{PROJECT}/users", user)
    daemon.call("POST", f"/{PROJECT}/items/authors", [{"name": f"author {n}", "status": n % 3 + 1} for n in range(5)])
    daemon.call("POST", f"/{PROJECT}/items/labels", [{"name": name} for name in "abc"])
    articles = [
        {
            "title": f"title {n}",
            "status": ("published", "draft")[n % 2],
            "views": n,
            "price": f"{n}.50",
            "tags": ["x", "y"],
            "data": {"n": n},
            "author": n % 5 + 1,
            "labels": [{"label": "a"}],
        }
        for n in range(10)
    ]
    daemon.call("POST", f"/{PROJECT}/items/articles", articles)


def set_permissions(daemon: Daemon, fuzz: Fuzz) -> None:
    """Gives the limited roles and the public other permissions."""
    roles = (2, *LIMITED_ROLES)
    present = daemon.call("GET", f"/{PROJECT}/permissions?limit=-1&fields=id,role")["data"]
    ids = [str(row["id"]) for row in present if row["role"] in roles]
    for start in range(0, len(ids), 50):
        daemon.call("DELETE", f"/{PROJECT}/permissions/{','.join(ids[start : start + 50])}")
    daemon.call("POST", f"/{PROJECT}/permissions", [row for role in roles for row in fuzz.permissions(role)])


def resident(daemon: Daemon) -> int:
    """The bytes of memory that the server holds."""
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def run(daemon: Daemon, seed: int, number: int, *, permissions_every: int = 200) -> Report:
    """Sends *number* requests of a seed, one after the other, with other permissions now and then."""
    fuzz = Fuzz(seed)
    report = Report()
    prepare(daemon)
    before = 0
    for count in range(number):
        if count % permissions_every == 0:
            set_permissions(daemon, fuzz)
        if count == number // 4:
            before = resident(daemon)
        sent = fuzz.request()
        started = time.monotonic()
        status, body = send(daemon, sent)
        taken = time.monotonic() - started
        report.statuses[status] = report.statuses.get(status, 0) + 1
        if taken > report.slowest[0]:
            report.slowest = (taken, sent)
        if status >= 500 or status == 0:
            report.failures.append((sent, status, body))
    report.memory = (before, resident(daemon))
    return report


def send(daemon: Daemon, sent: Sent) -> tuple[int, bytes]:
    """The status and body of the answer; the status is 0 where there was none."""
    token: Any = {1: TOKEN, 2: None}.get(sent.role or 2, f"token-{sent.role}")
    headers = dict(sent.headers)
    if token is not None:
        headers["Authorization"] = f"bearer {token}"
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=TIMEOUT)
    try:
        connection.request(sent.method, sent.path, sent.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (http.client.HTTPException, OSError) as error:
        return 0, repr(error).encode()
    finally:
        connection.close()
