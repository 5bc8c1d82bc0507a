"""Sessions in several processes, over a restart, and under load."""

import concurrent.futures
import contextlib
import json
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.daemon import Daemon, wait_for
from tests.live.test_processes import started

ADMIN = {"email": "admin@example.com", "password": "password"}
ME = "/p/users/me?fields=id"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server of two processes."""
    found = started(tmp_path_factory.mktemp("sessions"))
    found.create_project("p")
    yield found
    assert found.stop() == 0


def send(daemon: Daemon, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
    """The status, the headers and the body of an answer, over a connection of its own: any process may answer."""
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    with contextlib.closing(connection):
        text = None if body is None else json.dumps(body).encode()
        connection.request(method, path, text, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(data) if data else None


def sign_in(daemon: Daemon, **more: str) -> str:
    """The header Cookie of a user who has just signed in."""
    status, headers, _ = send(daemon, "POST", "/p/auth/authenticate", ADMIN | {"mode": "cookie"} | more)
    assert status == 200
    return headers["set-cookie"].partition(";")[0]


def statuses(daemon: Daemon, cookie: str, number: int = 30) -> set[int]:
    """The statuses of requests with a cookie, from all processes."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: send(daemon, "GET", ME, Cookie=cookie)[0], range(number)))


def test_all_processes_know_a_session_and_its_end(daemon: Daemon) -> None:
    cookies = [sign_in(daemon) for _ in range(3)]
    for cookie in cookies:
        assert statuses(daemon, cookie) == {200}
    assert send(daemon, "POST", "/p/auth/logout", Cookie=cookies[0])[0] == 200
    wait_for(lambda: statuses(daemon, cookies[0]) == {401})
    assert statuses(daemon, cookies[1]) == {200}
    # A new password, made with one of the sessions: the others end.
    assert send(daemon, "PATCH", "/p/users/1", {"password": "password"}, Cookie=cookies[1])[0] == 200
    wait_for(lambda: statuses(daemon, cookies[2]) == {401})
    assert statuses(daemon, cookies[1]) == {200}
    assert send(daemon, "POST", "/p/auth/logout/1", Cookie=cookies[1])[0] == 200
    wait_for(lambda: statuses(daemon, cookies[1]) == {401})
    assert statuses(daemon, sign_in(daemon)) == {200}


def test_all_processes_know_that_a_user_is_deactivated_and_has_other_tokens_afterwards(daemon: Daemon) -> None:
    user = daemon.call("POST", "/p/users?fields=id", {"email": "b@example.com", "password": "x", "status": "active", "role": 1})[
        "data"
    ]

    def token() -> str:
        answer = daemon.call("POST", "/p/auth/authenticate", {"email": "b@example.com", "password": "x"}, token=None)
        return f"Bearer {answer['data']['token']}"

    def known(text: str) -> set[int]:
        return {send(daemon, "GET", "/p/users/me?fields=id", Authorization=text)[0] for _ in range(20)}

    former = token()
    assert known(former) == {200}
    for status in ("suspended", "active"):
        daemon.call("PATCH", f"/p/users/{user['id']}", {"status": status})
        wait_for(lambda: known(former) == {401})
    newer = token()
    assert known(newer) == {200}
    assert known(former) == {401}
    daemon.call("DELETE", f"/p/users/{user['id']}")
    wait_for(lambda: known(newer) == {401})


def test_a_session_that_is_used_everywhere_while_it_ends_stays_ended(daemon: Daemon) -> None:
    """Uses and refreshes at the same time in both processes, with settings by which each use moves the expiry."""
    (setting,) = daemon.call("GET", "/p/settings?filter[key]=auto_sign_out")["data"]
    daemon.call("PATCH", f"/p/settings/{setting['id']}", {"value": 1})
    for _ in range(3):
        cookie = sign_in(daemon)
        token = send(daemon, "POST", "/p/auth/authenticate", ADMIN)[2]["data"]["token"]
        over = threading.Event()

        def use(cookie: str = cookie, over: threading.Event = over) -> int:
            uses = 0
            while not over.is_set() and uses < 500:
                assert send(daemon, "GET", ME, Cookie=cookie)[0] in (200, 401)
                uses += 1
            return uses

        def refresh(token: str = token, over: threading.Event = over) -> int:
            refreshes = 0
            while not over.is_set() and refreshes < 500:
                status, _, answer = send(daemon, "POST", "/p/auth/refresh", {"token": token})
                assert status in (200, 401), answer
                if status == 200:
                    token = answer["data"]["token"]
                refreshes += 1
            return refreshes

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            work = [pool.submit(use), pool.submit(use), pool.submit(refresh), pool.submit(refresh)]
            try:
                time.sleep(0.2)
                assert send(daemon, "POST", "/p/auth/logout/1", Cookie=cookie)[0] == 200
            finally:
                over.set()
            assert all(each.result(60) for each in work)
        wait_for(lambda cookie=cookie: statuses(daemon, cookie, 10) == {401})  # type: ignore[misc]
        assert send(daemon, "POST", "/p/auth/refresh", {"token": token})[0] == 401
    with contextlib.closing(daemon.connect("p")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM directus_user_sessions")
        assert cursor.fetchone() == (0,)
    daemon.call("PATCH", f"/p/settings/{setting['id']}", {"value": 10080})


def test_sessions_outlive_a_server_that_is_killed(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path).start()
    try:
        daemon.create_project("p")
        cookie, ended = sign_in(daemon), sign_in(daemon)
        send(daemon, "POST", "/p/auth/logout", Cookie=ended)
        daemon.stop(signal.SIGKILL)
        daemon.start()
        assert (statuses(daemon, cookie, 1), statuses(daemon, ended, 1)) == ({200}, {401})
    finally:
        assert daemon.stop() == 0
