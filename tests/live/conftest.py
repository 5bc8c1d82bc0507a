"""Fixtures of the tests with real processes."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.browser import chromium


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found
