"""Hashes of passwords: of the whole text, with a salt of their own."""

import base64

from directus_tx.accounts import hashes
from directus_tx.schema.parsing import MAX_HASHED


def test_argon2_takes_every_character_of_a_password() -> None:
    for text in ("a" * MAX_HASHED, "\U0001f600" * MAX_HASHED):
        hashed = hashes.hash_argon2(text)
        assert hashes.matches(text, hashed)
        assert not hashes.matches(text[:-1] + "b", hashed)
        assert not hashes.matches(text[:-1], hashed)


def test_bcrypt_takes_the_first_72_bytes_as_php_does() -> None:
    hashed = hashes.hash_bcrypt("a" * 73, 4)
    assert hashes.matches("a" * 72 + "b", hashed)
    assert not hashes.matches("a" * 71 + "b", hashed)
    assert hashes.is_outdated(hashed)


def test_each_hash_has_a_salt_of_its_own() -> None:
    salts = {base64.b64decode(hashes.hash_argon2("password").split("$")[4] + "==") for _ in range(5)}
    assert len(salts) == 5
    assert {len(salt) for salt in salts} == {16}
