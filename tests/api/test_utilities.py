"""/utils: what it refuses to work on, and that its work does not stop others."""

import threading
from typing import Any

import argon2
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.accounts import hashes
from directus_tx.http.endpoints.utilities import ALPHABET, _random_text
from tests.conftest import Client, Reply

SALT, DIGEST = "c29tZXNhbHRzb21lc2FsdA", "A" * 43


async def match(client: Client, string: Any, hashed: Any, **more: Any) -> Reply:
    return await client.post("~/utils/hash/match", {"string": string, "hash": hashed, **more}, token=None)


def argon(memory: int | str, passes: int | str, lanes: int | str, kind: str = "argon2id") -> str:
    return f"${kind}$v=19$m={memory},t={passes},p={lanes}${SALT}${DIGEST}"


COSTLY = {
    "memory": argon(65537, 1, 1),
    "memory of terabytes": argon(2**32 - 1, 1, 1),
    "passes": argon(65536, 5, 1),
    "passes with little memory": argon(8, 2**32 - 1, 1),
    "lanes": argon(65536, 1, 5),
    "thousands of lanes": argon(65536, 1, 8192),
    "digits": argon("9" * 200, 1, 1),
    "argon2i": argon(2**20, 1, 1, "argon2i"),
    "argon2d": argon(2**20, 1, 1, "argon2d"),
    "no version": argon(2**20, 1, 1).replace("$v=19", ""),
    "bcrypt 31": f"$2y$31${'.' * 53}",
    "bcrypt 13": f"$2b$13${'.' * 53}",
    "bcrypt 99": f"$2a$99${'.' * 53}",
    "a long hash": "$2y$10$" + "." * 2000,
    "half a megabyte": "x" * 2**19,
}


@ensureDeferred
async def test_a_hash_that_costs_too_much_is_refused_before_any_work(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> bool:
        raise AssertionError("checked")

    monkeypatch.setattr(hashes, "matches", never)
    for name, hashed in COSTLY.items():
        answer = await match(client, "x", hashed)
        assert (answer.status, answer.code) == (422, 4), name
        message = answer.json["error"]["message"]
        assert "at most" in message, name


NO_HASHES = {
    "a word": "x",
    "no salt": "$2y$10$",
    "a short salt": "$2y$10$abc",
    "letters that are none": "$2y$04$" + "!" * 53,
    "beyond ASCII": "$2y$04$" + "é" * 53,
    "digits of others": "$2y$٠٤$" + "." * 53,
    "argon2 without a digest": f"$argon2id$v=19$m=64,t=1,p=1${SALT}",
    "argon2 with a short digest": f"$argon2id$v=19$m=64,t=1,p=1${SALT}$AAAA",
    "argon2 of another version": argon(64, 1, 1).replace("v=19", "v=99"),
    "argon2 with a key": argon(64, 1, "1,keyid=AA"),
    "argon2 with too little memory": argon(1, 1, 1),
    "argon2 with no passes": argon(64, 0, 1),
    "argon2 with no lanes": argon(64, 1, 0),
    "argon2 with a negative number": argon(-64, 1, 1),
    "zeros": argon("0064", 1, 1),
    "zeros before a large number": argon("0" * 20 + "99999999", 1, 1),
}


@ensureDeferred
async def test_what_is_no_hash_matches_nothing(client: Client) -> None:
    for name, hashed in NO_HASHES.items():
        answer = await match(client, "x", hashed)
        assert (answer.status, answer.data) == (200, {"valid": False}), name


@ensureDeferred
async def test_hashes_within_the_limits_match(client: Client) -> None:
    made = {
        "PHP's argon2id": argon2.PasswordHasher(memory_cost=65536, time_cost=4, parallelism=1).hash("text"),
        "RFC 9106's": argon2.PasswordHasher(memory_cost=65536, time_cost=3, parallelism=4).hash("text"),
        "argon2i": argon2.PasswordHasher(memory_cost=64, time_cost=1, parallelism=1, type=argon2.Type.I).hash("text"),
        "our own": hashes.hash_argon2("text"),
        "bcrypt 12": hashes.hash_bcrypt("text", 12),
        "$2b$": "$2b$" + hashes.hash_bcrypt("text", 4)[4:],
    }
    for name, hashed in made.items():
        assert (await match(client, "text", hashed)).data == {"valid": True}, name
        assert (await match(client, "Text", hashed)).data == {"valid": False}, name


@ensureDeferred
async def test_texts_are_bounded(client: Client) -> None:
    for hasher in ("core", "bcrypt", "md5", "sha512"):
        for path, more in (("hash", {}), ("hash/match", {"hash": "x"})):
            for length, status in ((4096, 200), (4097, 422), (2**17, 422)):
                payload = {"string": "ä" * length, "hasher": hasher, "options": {"cost": 4}, **more}
                answer = await client.post(f"~/utils/{path}", payload, token=None)
                assert answer.status == status, (hasher, path, length)


@ensureDeferred
async def test_costs_are_bounded(client: Client) -> None:
    for cost in (3, 13, 31, -1, 2**70, True, None, "10", 10.0, [10]):
        answer = await client.post("~/utils/hash", {"string": "x", "options": {"cost": cost}}, token=None)
        assert (answer.status, answer.code) == (422, 4), cost
    for options in (None, [], "cost", 5, {}):
        answer = await client.post("~/utils/hash", {"string": "x", "options": options}, token=None)
        assert answer.data["hash"].startswith("$2y$10$")


@ensureDeferred
async def test_emoji_are_hashed_as_they_are(client: Client) -> None:
    for text in ("\U0001f600", "ä" * 100):
        for hasher in ("core", "md5"):
            made = (await client.post("~/utils/hash", {"string": text, "hasher": hasher, "options": {"cost": 4}})).data["hash"]
            assert (await match(client, text, made, hasher=hasher)).data == {"valid": True}
            assert (await match(client, "a", made, hasher=hasher)).data == {"valid": False}


@ensureDeferred
async def test_a_flood_of_hashes_does_not_stop_signing_in_nor_writing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()
    free = hashes.hash_bcrypt

    def held(text: str, cost: int) -> str:
        going_on.wait(60)
        return free(text, cost)

    monkeypatch.setattr(hashes, "hash_bcrypt", held)
    client.pool.maxPersistentPerHost = 200
    request = {"string": "x", "options": {"cost": 4}}
    flood = [defer.ensureDeferred(client.post("~/utils/hash", request, token=None)) for _ in range(100)]
    refused: list[Reply] = []
    waiting: defer.Deferred[None] = defer.Deferred()
    for each in flood:
        each.addCallback(lambda answer: refused.append(answer) or (len(refused) == 36 and waiting.callback(None)) or answer)
    try:
        await waiting
        assert {(each.status, each.code, each.headers["retry-after"]) for each in refused} == {(503, 16, "1")}
        credentials = {"email": "admin@example.com", "password": "password"}
        assert (await client.post("~/auth/authenticate", credentials, token=None)).status == 200
        user = {"email": "b@example.com", "password": "password", "role": 1, "status": "active"}
        assert (await client.post("~/users", user)).status == 200
        assert (await match(client, "x", "5d41402abc4b2a76b9719d911017c592", hasher="md5")).status == 200
    finally:
        going_on.set()
        await defer.gatherResults(flood, consumeErrors=True)
    assert (await client.post("~/utils/hash", request, token=None)).status == 200


@ensureDeferred
async def test_a_flood_of_sign_ins_is_bounded_and_does_not_stop_writing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()
    free = hashes.matches

    def held(text: str, hashed: str) -> bool:
        going_on.wait(60)
        return free(text, hashed)

    monkeypatch.setattr(hashes, "matches", held)
    credentials = {"email": "admin@example.com", "password": "password"}
    # The process knows the token then, so it is no attempt.
    assert (await client.get("~/users/me?fields=id")).status == 200
    # As many begin as may fail (rate_limits.failures_per_address, 60), 64 more wait.
    flood = [defer.ensureDeferred(client.post("~/auth/authenticate", credentials, token=None)) for _ in range(150)]
    refused: list[Reply] = []
    waiting: defer.Deferred[None] = defer.Deferred()
    for each in flood:
        each.addCallback(lambda answer: refused.append(answer) or (len(refused) == 26 and waiting.callback(None)) or answer)
    try:
        await waiting
        assert {(each.status, each.code, each.headers["retry-after"]) for each in refused} == {(503, 16, "1")}
        user = {"email": "b@example.com", "password": "password", "role": 1, "status": "active"}
        assert (await client.post("~/users", user)).status == 200
    finally:
        going_on.set()
        answers = await defer.gatherResults(flood, consumeErrors=True)
    assert sorted(answer.status for answer in answers) == [200] * 124 + [503] * 26


@ensureDeferred
async def test_hashes_of_several_texts_come_in_their_order(client: Client) -> None:
    hasher = client.backend.hasher
    texts = [f"text {number}" for number in range(5)]
    for text, hashed in zip(texts, await hasher.hash_all(texts), strict=True):
        assert hashes.matches(text, hashed)
    assert await hasher.hash_all([]) == []


def test_random_letters_are_as_often_as_each_other() -> None:
    text = _random_text(82_000)
    assert len(text) == 82_000
    counts = [text.count(letter) for letter in ALPHABET]
    assert sum(counts) == 82_000
    # 1000 of each on average; six standard deviations around it.
    assert all(810 < count < 1190 for count in counts)
    assert [len(_random_text(length)) for length in (0, 1, 2, 100)] == [0, 1, 2, 100]
