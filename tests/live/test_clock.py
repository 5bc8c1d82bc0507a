"""The system clock is set back and forward while the server answers: timers keep their intervals, tokens and times follow the new time."""

import glob
import json
import os
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import KEY, field
from tests.daemon import Daemon
from tests.live.test_faults import rows, start, wait_for
from tests.live.test_writes import connect

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
PRUNE_INTERVAL = 0.5
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (apt-get install faketime)")


class Timed:
    """A server whose system clock the test sets. `offset` is the difference to the clock of this process."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.file = directory / "offset"
        self.set(timedelta(0))
        self.collections = 0
        self.daemon = Daemon(directory)
        self.daemon.environment |= {
            "LD_PRELOAD": LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DIRECTUS_HISTORY_RETENTION": "*=30d",
            "DIRECTUS_HISTORY_PRUNE_INTERVAL": str(PRUNE_INTERVAL),
            # Two of them for one caller.
            "DIRECTUS_DATABASE_POOL_SIZE": "3",
            "DIRECTUS_DATABASE_QUEUE_TIMEOUT": "1",
        }
        self.daemon.start()
        self.daemon.create_project("p")
        fields = [KEY, field("name"), field("created", "datetime_created", "DATETIME", None)]
        self.daemon.call("POST", "/p/collections", {"collection": "things", "fields": fields})

    def set(self, offset: timedelta) -> None:
        self.offset = offset
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset.total_seconds():+.0f}\n")
        os.rename(new, self.file)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def status(self, path: str, token: str | None = None, *, cookie: str | None = None) -> int:
        try:
            if cookie is not None:
                urllib.request.urlopen(urllib.request.Request(self.daemon.base + path, headers={"Cookie": cookie}), timeout=60)
            else:
                self.daemon.call("GET", path, token=token)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    def create(self) -> dict[str, Any]:
        """Creates an item and checks its time."""
        item: dict[str, Any] = self.daemon.call("POST", "/p/items/things", {"name": "x"})["data"]
        assert abs(datetime.fromisoformat(item["created"]) - self.now()) < timedelta(minutes=5)
        return item

    def sign_in(self) -> str:
        credentials = {"email": "admin@example.com", "password": "password"}
        return str(self.daemon.call("POST", "/p/auth/authenticate", credentials, token=None)["data"]["token"])

    def sign_in_with_cookie(self) -> str:
        credentials = {"email": "admin@example.com", "password": "password", "mode": "cookie"}
        headers = {"Content-Type": "application/json"}
        url = f"{self.daemon.base}/p/auth/authenticate"
        request = urllib.request.Request(url, json.dumps(credentials).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.headers["set-cookie"].partition(";")[0])

    def check_queue_timeout(self, database: Any, change: timedelta = timedelta(0)) -> None:
        """Asserts that requests that wait for a connection are refused after queue_timeout, neither at once nor never, also if the clock
        is changed while they wait."""
        rows(database, "BEGIN")
        rows(database, "LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        waiting = [start(self.status, "/p/items/things?limit=1", "daemon-token") for _ in range(6)]
        # Unlike pg_stat_activity, pg_locks is read anew in each statement of a transaction.
        wait_for(lambda: rows(database, "SELECT count(*) FROM pg_locks WHERE NOT granted AND database IS NOT NULL") == [(2,)])
        self.set(self.offset + change)
        wait_for(lambda: sum(each.done() for each in waiting) == 4)
        assert time.monotonic() - started > 0.8
        rows(database, "ROLLBACK")
        assert sorted(each.result(60) for each in waiting) == [200, 200, 503, 503, 503, 503]

    def check_pruning(self, database: Any) -> None:
        """Asserts that the retention job goes on, and removes what is 30 days old by the new time."""
        insert = (
            "INSERT INTO directus_activity (action, action_on, collection, item, ip, user_agent)"
            " VALUES ('update', %s, %s, %s, '', '')"
        )
        # Records are removed in the order of their ids, so each check has a collection of its own.
        self.collections += 1
        collection = f"pruned {self.collections}"
        for name, age in (("old", timedelta(days=31)), ("young", timedelta(days=29))):
            rows(database, insert, (self.now() - age, collection, name))
        left = "SELECT item FROM directus_activity WHERE collection = %s"
        wait_for(lambda: rows(database, left, (collection,)) == [("young",)])


@pytest.fixture
def timed(tmp_path: pathlib.Path) -> Iterator[Timed]:
    found = Timed(tmp_path)
    yield found
    assert found.daemon.stop() == 0


def test_the_server_goes_on_when_the_system_clock_is_set(timed: Timed) -> None:
    database = connect(timed.daemon)
    database.autocommit = True
    timed.check_pruning(database)
    cookie = timed.sign_in_with_cookie()
    for change in (timedelta(hours=-1), timedelta(days=1)):
        before = timed.sign_in()
        assert timed.status("/p/users/me", before) == 200
        timed.check_queue_timeout(database, change)
        for _ in range(20):
            timed.create()
            assert timed.status("/p/items/things?limit=1", "daemon-token") == 200
        timed.check_queue_timeout(database)
        timed.check_pruning(database)
        # A token is valid for 20 minutes of the time of day.
        assert timed.status("/p/users/me", before) == (200 if change < timedelta(0) else 401)
        new = timed.sign_in()
        assert timed.status("/p/users/me", new) == 200
        timed.set(timed.offset + timedelta(minutes=21))
        assert timed.status("/p/users/me", new) == 401
        timed.set(timed.offset - timedelta(minutes=21))
        assert timed.status("/p/users/me", new) == 200
        # A session is valid for 7 days after its last use.
        assert timed.status("/p/users/me", cookie=cookie) == 200
        timed.set(timed.offset + timedelta(days=8))
        assert timed.status("/p/users/me", cookie=cookie) == 401
        timed.set(timed.offset - timedelta(days=8))
        assert timed.status("/p/users/me", cookie=cookie) == 200
    wait_for(lambda: " GET /p/users/me 401 " in timed.daemon.output)
    database.close()
