"""Random requests over random permissions: none is a server error, none takes a statement longer than two seconds, memory is bounded.

`python -m tests.fuzz` sends more of them.
"""

import os
import pathlib
import random
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.fuzz.runner import run

REQUESTS = 2500
STATEMENT_TIMEOUT = 2
"""Seconds: a statement that takes longer is answered 503, which counts as a failure here."""

GROWTH = 60 * 2**20
"""Bytes that the server may grow by after the first quarter of the requests."""


@pytest.fixture
def daemon(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setenv("DIRECTUS_DATABASE_STATEMENT_TIMEOUT", str(STATEMENT_TIMEOUT))
    found = Daemon(tmp_path).start()
    yield found
    assert found.stop() == 0


def test_no_request_is_a_server_error(daemon: Daemon) -> None:
    seed = 10 if os.environ.get("HYPOTHESIS_PROFILE") == "fixed" else random.randrange(10**6)
    report = run(daemon, seed, REQUESTS)
    assert [(sent, status, body[:200]) for sent, status, body in report.failures] == [], f"seed {seed}"
    assert report.statuses.get(200, 0) > REQUESTS / 10, "most requests are refused: the fuzz finds little"
    assert report.statuses.get(403, 0) > REQUESTS / 50
    assert report.memory[1] - report.memory[0] < GROWTH, f"seed {seed}"
