"""What is kept for clients that take their answers slowly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.http import sending
from directus_tx.http.sending import Backlog
from directus_tx.http.spool import Spool


@given(
    st.lists(st.one_of(st.integers(0, 60), st.none()), max_size=60),
    st.integers(1, 20),
    st.integers(0, 40),
    st.integers(1, 50),
    st.integers(0, 200),
)
def test_a_backlog_gives_what_it_was_given_in_order(
    steps: list[int | None], piece: int, in_memory: int, segment: int, size: int
) -> None:
    """A number puts so many bytes, None takes some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "PIECE", piece)
        patch.setattr(sending, "IN_MEMORY", in_memory)
        patch.setattr(sending, "SEGMENT", segment)
        spool = Spool(size)
        backlog = Backlog(spool)
        given_to, taken = bytearray(), bytearray()
        for step in steps:
            if step is None:
                found = backlog.pop()
                assert len(found) <= piece
                taken += found
            else:
                data = bytes((len(given_to) + n) % 251 for n in range(step))
                empty = not backlog
                if backlog.put(memoryview(data)):
                    given_to += data
                else:
                    assert not empty
                    assert len(data) > spool.left or len(data) > size
            assert bool(backlog) == (len(taken) < len(given_to))
            assert 0 <= spool.left <= size
        while backlog:
            taken += backlog.pop()
        assert taken == given_to
        assert spool.left == size
        backlog.put(memoryview(b"x" * 100))
        backlog.put(memoryview(b"y" * 100))
        backlog.close()
        assert not backlog
        assert spool.left == size


def test_a_full_disk_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    spool = Spool(10**9)
    backlog = Backlog(spool)
    assert backlog.put(memoryview(b"a" * sending.IN_MEMORY))
    monkeypatch.setattr(sending._Segment, "append", full)
    assert not backlog.put(memoryview(b"b" * 100))
    assert spool.left == 10**9
    monkeypatch.undo()
    assert backlog.put(memoryview(b"c" * 100))
    found = b""
    while backlog:
        found += backlog.pop()
    assert found == b"a" * sending.IN_MEMORY + b"c" * 100
