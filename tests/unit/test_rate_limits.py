"""Rate limits: GCRA, bounded memory, and what requests are counted for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from directus_tx.http.client import Proxies
from directus_tx.rate_limits import MAX_USED, WINDOW, Limiter, Rate, Recent, network_of


def test_all_of_a_rate_can_be_used_at_once_and_is_restored_one_by_one() -> None:
    clock = Clock()
    limiter = Limiter(Rate(3), clock.seconds)
    for left in (2, 1, 0):
        assert limiter.wait("a") == 0
        limiter.add("a")
        assert limiter.remaining("a") == left
    assert limiter.wait("a") == pytest.approx(20, abs=0.01)
    assert limiter.wait("b") == 0
    clock.advance(19)
    assert limiter.wait("a") == pytest.approx(1, abs=0.01)
    clock.advance(1)
    assert limiter.wait("a") == 0
    limiter.add("a")
    assert limiter.wait("a") == pytest.approx(20, abs=0.01)
    clock.advance(60)
    assert limiter.remaining("a") == 3


@given(st.integers(1, 50), st.lists(st.floats(0, 20), max_size=200))
def test_no_window_admits_more_than_twice_the_rate_nor_all_time_more_than_the_rate(number: int, pauses: list[float]) -> None:
    clock = Clock()
    limiter = Limiter(Rate(number), clock.seconds)
    admitted = []
    for pause in pauses:
        clock.advance(pause)
        if not limiter.wait("a"):
            limiter.add("a")
            admitted.append(clock.seconds())
    for start in admitted:
        assert sum(start <= each < start + WINDOW for each in admitted) <= 2 * number
    lasted = clock.seconds() - (admitted[0] if admitted else 0)
    assert len(admitted) <= number + lasted / limiter.rate.interval + 1


@pytest.mark.parametrize("used", [MAX_USED, 10**9, float("inf")])
def test_a_limit_is_restored_after_two_windows_whatever_has_been_counted(used: float) -> None:
    clock = Clock()
    limiter = Limiter(Rate(5), clock.seconds)
    limiter.set("a", used)
    assert limiter.wait("a") > 0
    clock.advance(MAX_USED)
    assert limiter.remaining("a") == 5


def test_memory_is_bounded_and_the_last_used_keys_are_kept() -> None:
    clock = Clock()
    limiter = Limiter(Rate(1), clock.seconds, capacity=100)
    for number in range(1000):
        limiter.add(number)
        assert len(limiter) <= 100
    assert limiter.wait(999) > 0
    assert limiter.wait(0) == 0


def test_a_key_that_is_used_again_and_again_is_kept_while_others_come_and_go() -> None:
    clock = Clock()
    limiter = Limiter(Rate(1), clock.seconds, capacity=100)
    for number in range(1000):
        limiter.add("a")
        limiter.add(number)
        assert limiter.wait("a") > 0


def test_values_are_kept_for_as_long_as_they_count_and_not_much_longer() -> None:
    clock = Clock()
    recent: Recent[int] = Recent(10, clock.seconds)
    for number in range(50):
        recent.set(number, number)
        for known in range(max(number - 9, 0), number + 1):
            assert recent.get(known) == known
        assert len(recent) <= 21
        clock.advance(1)
    clock.advance(100)
    recent.set("new", 1)
    assert len(recent) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("unknown", "unknown"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_ipv6_is_counted_by_networks_of_64_bits(address: str, network: str) -> None:
    assert network_of(address) == network


class Request(DummyRequest):  # type: ignore[misc]
    """A request of a peer, with X-Forwarded-For."""

    def __init__(self, peer: str | None, forwarded: str | None = None) -> None:
        super().__init__([b""])
        self.peer = peer
        self.forwarded = forwarded

    def getClientAddress(self) -> "Request":
        return self

    @property
    def host(self) -> str | None:
        return self.peer

    def getHeader(self, name: str) -> str | None:
        return self.forwarded if name == "x-forwarded-for" else None


@pytest.mark.parametrize(
    ("peer", "forwarded", "network"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        ("10.0.0.1", None, None),
        (None, "198.51.100.1", None),
    ],
)
def test_requests_are_counted_for_the_client_that_a_trusted_proxy_names(
    peer: str | None, forwarded: str | None, network: str | None
) -> None:
    assert Proxies(["10.0.0.0/8"]).network(Request(peer, forwarded)) == network
