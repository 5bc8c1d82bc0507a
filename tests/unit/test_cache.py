"""A cache in which nobody pushes out what others ask for."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from directus_tx.cache import LARGEST, Cache

MOST = 100_000


class Asker:
    """Asks a cache for values, each the text of its key, and counts how often each had to be made."""

    def __init__(self, most: int = MOST) -> None:
        self.cache: Cache[str] = Cache(most)
        self.made: Counter[tuple[str, object]] = Counter()

    def ask(self, owner: str, key: object, weight: int = 100) -> None:
        def make() -> str:
            self.made[owner, key] += 1
            return f"{owner} {key}"

        assert self.cache.get(owner, key, make, lambda value: weight) == f"{owner} {key}"
        assert self.cache.weight <= self.cache.most


def test_a_value_is_made_once() -> None:
    asker = Asker()
    for _ in range(3):
        for key in range(100):
            asker.ask("a", key)
    assert set(asker.made.values()) == {1}
    assert (len(asker.cache), asker.cache.weight) == (100, 10_000)


def test_owners_do_not_share_values() -> None:
    asker = Asker()
    asker.ask("a", "key")
    asker.ask("b", "key")
    assert asker.made == {("a", "key"): 1, ("b", "key"): 1}


def test_a_flood_of_new_keys_leaves_in_place_what_is_asked_for_again() -> None:
    asker = Asker()
    wanted = range(500)
    for _ in range(2):
        for key in wanted:
            asker.ask("a", key)
    for number in range(50_000):
        asker.ask("a", f"flood {number}")
        if number % 50 == 0:
            asker.ask("a", number // 50 % 500)
    assert max(asker.made["a", key] for key in wanted) == 1


def test_a_flood_of_keys_that_are_asked_for_again_and_again_leaves_those_of_others_in_place() -> None:
    asker = Asker()
    for key in range(300):
        asker.ask("b", key)
    for number in range(20_000):
        for _ in range(3):
            asker.ask("a", f"flood {number}")
    for key in range(300):
        asker.ask("b", key)
    assert {asker.made["b", key] for key in range(300)} == {1}


def test_what_is_no_longer_asked_for_makes_room() -> None:
    asker = Asker()
    for period in range(10):
        for _ in range(5):
            for key in range(700):
                asker.ask("a", (period, key))
        asker.made.clear()
        for key in range(700):
            asker.ask("a", (period, key))
        assert sum(asker.made.values()) < 70


def test_a_value_that_would_take_much_of_the_room_is_not_kept() -> None:
    asker = Asker()
    asker.ask("a", "large", int(MOST * LARGEST) + 1)
    assert (len(asker.cache), asker.cache.weight) == (0, 0)
    asker.ask("a", "as large as may be", int(MOST * LARGEST))
    asker.ask("a", "as large as may be", int(MOST * LARGEST))
    assert asker.made["a", "as large as may be"] == 1


def test_a_failure_is_not_kept() -> None:
    cache: Cache[str] = Cache(MOST)

    def fail() -> str:
        raise ValueError

    for _ in range(2):
        try:
            cache.get("a", 1, fail, len)
        except ValueError:
            continue
        raise AssertionError
    assert cache.get("a", 1, lambda: "found", len) == "found"


@given(
    asked=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 80)), max_size=300),
    most=st.sampled_from([100, 1000, 1600]),
)
def test_the_weight_is_that_of_the_values_and_never_more_than_the_most(asked: list[tuple[str, int, int]], most: int) -> None:
    cache: Cache[int] = Cache(most)
    weights = {}
    for owner, key, weight in asked:
        weight = weights.setdefault((owner, key), weight)
        assert cache.get(owner, key, lambda weight=weight: weight, lambda value: value) == weight
        assert cache.weight <= most
    kept = [cache._entries[place].weight for place in cache._entries]
    assert cache.weight == sum(kept)
    assert sum(share.weight for share in cache._shares.values()) == cache.weight
    for share in cache._shares.values():
        assert share.weight == sum(entry.weight for entry in (*share.new, *share.proven))
        assert share.new_weight == sum(entry.weight for entry in share.new)


def test_requests_as_clients_make_them_are_nearly_all_found() -> None:
    """A few keys often, many seldom, as Zipf's law has it, while one key after the other is tried once."""
    draw = random.Random(1)
    asker = Asker()
    keys = draw.choices(range(5000), weights=[1 / (rank + 1) for rank in range(5000)], k=30_000)
    for number, key in enumerate(keys):
        asker.ask("a", key)
        asker.ask("a", f"flood {number}")
    found = 1 - sum(times for (_, key), times in asker.made.items() if isinstance(key, int)) / len(keys)
    assert found > 0.6


def test_a_value_can_be_looked_for_without_making_it() -> None:
    cache: Cache[str] = Cache(1000)
    assert cache.find("owner", "key") is None
    cache.get("owner", "key", lambda: "value", lambda _: 1)
    assert cache.find("owner", "key") == "value"
    assert cache.find("other", "key") is None
