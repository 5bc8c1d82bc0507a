"""The daemon and the command in other time zones: as processes, as an operator starts them."""

import pathlib
import re
import subprocess
import urllib.error
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from tests.api.test_time import ZONES
from tests.conftest import KEY, field
from tests.daemon import BIN, Daemon

A_WHILE = timedelta(minutes=5)
"""Longer than a test takes, shorter than zones are apart."""


def is_now(text: str) -> bool:
    """Whether a time, in UTC, has just been."""
    return abs(datetime.now(UTC) - datetime.fromisoformat(text).replace(tzinfo=UTC)) < A_WHILE


@pytest.mark.parametrize("zone", ZONES)
def test_a_daemon_in_another_zone_says_and_stores_utc(tmp_path: pathlib.Path, zone: str) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["TZ"] = zone
    daemon.start()
    try:
        daemon.create_project("p")
        credentials = {"email": "admin@example.com", "password": "password"}
        token = daemon.call("POST", "/p/auth/authenticate", credentials, token=None)["data"]["token"]
        expires = datetime.fromtimestamp(jwt.decode(token, options={"verify_signature": False})["exp"], UTC)
        assert abs(expires - datetime.now(UTC) - timedelta(minutes=20)) < A_WHILE
        for path in ("/p/users/me?fields=id", "/p/users/me?fields=id", "/types"):
            assert daemon.call("GET", path, token=token)["data"]
        (setting,) = daemon.call("GET", "/p/settings?filter[key]=auth_token_ttl")["data"]
        daemon.call("PATCH", f"/p/settings/{setting['id']}", {"value": 0})
        dead = daemon.call("POST", "/p/auth/authenticate", credentials, token=None)["data"]["token"]
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                daemon.call("GET", "/p/users/me?fields=id", token=dead)
        things = {"collection": "things", "fields": [KEY, field("created", "datetime_created", "DATETIME", None)]}
        daemon.call("POST", "/p/collections", things)
        item = daemon.call("POST", "/p/items/things", {})["data"]
        assert is_now(item["created"])
        assert daemon.call("GET", "/p/items/things?filter[created][lte]=now&fields=id")["data"] == [{"id": item["id"]}]
        command = [BIN / "directus", "user", "create", "p", "b@example.com", "--generate", "--data-dir", tmp_path / "var"]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=daemon.environment, timeout=60)
        times = [row["action_on"] for row in daemon.call("GET", "/p/activity?limit=-1&fields=action_on")["data"]]
        assert len(times) > 4
        assert all(is_now(time) for time in times)
        stamps = re.findall(r"^(\S+)Z ", daemon.output, re.MULTILINE)
        assert stamps
        assert all(is_now(stamp) for stamp in stamps)
    finally:
        assert daemon.stop() == 0
