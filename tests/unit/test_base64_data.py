"""Base64 that is decoded in pieces is what it is if it is decoded at once."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.errors import InvalidRequest
from directus_tx.files import base64_data

MOST = 40
TEXTS = st.text("ABz9+/= \n\u2003-é", max_size=60) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode())


def at_once(data: str) -> bytes | None:
    """The bytes of a text; None if it is not base64 or too large."""
    text = "".join(data.split())
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) <= MOST else None


def in_pieces(data: str) -> bytes | None:
    found: list[bytes] = []

    async def take(piece: bytes) -> None:
        found.append(piece)

    try:
        # Nothing in it waits.
        base64_data.send(data, MOST, take).send(None)
    except InvalidRequest:
        assert found == []
        return None
    except StopIteration:
        return b"".join(found)
    raise AssertionError("it waits")


@given(TEXTS, st.integers(1, 9), st.sampled_from(["", "data:;base64,", "data:text/plain;charset=utf-8;base64,"]))
def test_texts(text: str, size: int, prefix: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base64_data, "PIECE", size)
        if prefix or text:
            assert in_pieces(prefix + text) == at_once(text)


@pytest.mark.parametrize("data", [None, 5, "", "data:text/plain,abc", "data:;base64,A", "%", ["QQ=="]])
def test_what_is_not_base64_is_refused(data: object) -> None:
    with pytest.raises(InvalidRequest):
        base64_data.check(data, MOST)
