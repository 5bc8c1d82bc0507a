"""The endpoints of server.listen."""

import pytest
from attrs import evolve

from directus_tx.checks import problems
from directus_tx.config import Settings


def said_of(*listen: str) -> list[str]:
    """What `directus config check` says of endpoints."""
    settings = Settings()
    found = problems(evolve(settings, server=evolve(settings.server, listen=listen)))
    return [each for each in found if each.startswith("server.listen")]


@pytest.mark.parametrize(
    "description",
    [
        "tcp:65536",
        "tcp:-1",
        "tcp:99999:interface=127.0.0.1",
        "tcp:port=65536",
        "tcp:interface=127.0.0.1:port=65536",
        "tcp6:99999",
        "tcp6:99999:interface=\\:\\:1",
        "haproxy:tcp:99999",
        "tcp:99999:backlog=50",
    ],
)
def test_a_port_that_there_is_not_is_found_before_the_server_starts(description: str) -> None:
    assert said_of(description) == [
        f'server.listen: "{description}" is not a Twisted endpoint: the port must be a number from 0 to 65535'
    ]


@pytest.mark.parametrize(
    "description",
    [
        "tcp:0",
        "tcp:65535",
        "tcp:8080:interface=127.0.0.1",
        "tcp:8080:127.0.0.1:70000",
        "tcp:8080:backlog=70000",
        "tcp6:8080:interface=\\:\\:1",
        "haproxy:tcp:8080",
        "unix:/run/99999",
        "unix:99999:mode=660",
    ],
)
def test_other_numbers_are_no_ports(description: str) -> None:
    assert said_of(description) == []
