"""Sealed secrets and keyed hashes."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.sealing import fingerprint, is_sealed, seal, unseal

TEXTS = st.text(st.characters(), max_size=200)
KEYS = st.text(max_size=200)
"""Keys come from files, so they have no lone surrogates."""


@given(KEYS, TEXTS, st.text(max_size=20))
def test_a_sealed_text_is_unsealed_with_its_key_and_purpose_alone(key: str, text: str, purpose: str) -> None:
    sealed = seal(key, purpose, text)
    assert is_sealed(sealed)
    assert sealed.isascii()
    assert unseal(key, purpose, sealed) == text
    for other_key, other_purpose in ((key + "x", purpose), (key, purpose + "x")):
        with pytest.raises(ValueError, match="another key or for another purpose"):
            unseal(other_key, other_purpose, sealed)


def test_sealing_twice_gives_different_texts_and_a_fingerprint_the_same() -> None:
    assert seal("key", "mail", "secret") != seal("key", "mail", "secret")
    assert fingerprint("key", "token", "secret") == fingerprint("key", "token", "secret")


@given(TEXTS, KEYS)
def test_a_fingerprint_depends_on_the_text_the_key_and_the_purpose(text: str, key: str) -> None:
    found = fingerprint(key, "token", text)
    assert len(found) == 64
    assert found not in {
        fingerprint(key, "token", text + "x"),
        fingerprint(key + "x", "token", text),
        fingerprint(key, "session", text),
    }


@given(st.data())
def test_any_change_of_a_sealed_text_is_noticed(data: st.DataObject) -> None:
    sealed = base64.urlsafe_b64decode(seal("key", "mail", "a secret").removeprefix("v1."))
    place, bit = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(sealed)
    changed[place] ^= 1 << bit
    with pytest.raises(ValueError, match="was changed"):
        unseal("key", "mail", "v1." + base64.urlsafe_b64encode(bytes(changed)).decode())


@pytest.mark.parametrize("text", ["", "secret", "v1.", "v1.AAAA", "v1.!!!!", "v1.é", "v2." + "A" * 60, "v1." + "A" * 7])
def test_what_is_not_sealed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sealed"):
        unseal("key", "mail", text)
