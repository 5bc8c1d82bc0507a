"""Tokens that are not encrypted yet, in a project whose servers are killed while they encrypt them."""

import pathlib
import signal
import urllib.error
from typing import Any

import pytest

from directus_tx.sealing import is_sealed
from tests.daemon import TOKEN, Daemon, wait_for

USERS = 5_000


def test_servers_that_are_killed_while_they_encrypt_tokens_lose_none(tmp_path: pathlib.Path, postgres: dict[str, Any]) -> None:
    """Afterwards several processes encrypt the rest at the same time, and each token is valid."""
    daemon = Daemon(tmp_path, url=f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}").start()
    daemon.create_project("p")
    assert daemon.stop() == 0
    connection = daemon.connect("p")
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(
        'INSERT INTO directus_users (email, status, role, token, "2fa_secret")'
        " SELECT 'u' || n || '@example.com', 'active', 1, 'plain ' || n, CASE n %% 2 WHEN 0 THEN 'JBSWY3DPEHPK3PXP' END"
        " FROM generate_series(1, %s) AS n",
        (USERS,),
    )

    def encrypted() -> int:
        cursor.execute("SELECT count(*) FROM directus_users WHERE token_fingerprint IS NOT NULL")
        return int(cursor.fetchone()[0])

    assert encrypted() == 1
    for _ in range(2):
        before = encrypted()
        daemon.start(ready=False)
        # A fast machine may be done by now; then there is nothing to kill in the middle, and the rest holds all the same.
        wait_for(lambda before=before: encrypted() > min(before, USERS))
        daemon.stop(signal.SIGKILL)
    other = Daemon(tmp_path, "--processes", "2", url=daemon.environment["DIRECTUS_DATABASE_URL"])
    try:
        daemon.start()
        other.start()
        for server in (daemon, other):
            for number in (1, USERS // 2, USERS):
                found = server.call("GET", "/p/users/me?fields=token,2fa_secret", token=f"plain {number}")["data"]
                assert found == {"token": f"plain {number}", "2fa_secret": None if number % 2 else "JBSWY3DPEHPK3PXP"}
            assert server.call("GET", "/p/users/me?fields=id", token=TOKEN)["data"] == {"id": 1}
            with pytest.raises(urllib.error.HTTPError, match="401"):
                server.call("GET", "/p/users/me?fields=id", token="plain 0")
        assert encrypted() == USERS + 1
        cursor.execute("SELECT count(DISTINCT token_fingerprint) FROM directus_users")
        assert cursor.fetchone() == (USERS + 1,)
        cursor.execute('SELECT token FROM directus_users UNION ALL SELECT "2fa_secret" FROM directus_users')
        assert all(text is None or is_sealed(text) for (text,) in cursor.fetchall())
    finally:
        for server in (daemon, other):
            if server.runs():
                server.stop()
        connection.close()
