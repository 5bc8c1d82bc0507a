"""One-time passwords, compared with the test vectors of RFC 6238."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.accounts import two_factor

SECRET = base64.b32encode(b"12345678901234567890").decode()
# RFC 6238, appendix B, the last six of the eight digits.
VECTORS = {59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037"}


@pytest.mark.parametrize(("seconds", "code"), VECTORS.items())
def test_the_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    for zone in (UTC, timezone(timedelta(hours=-9, minutes=-30))):
        assert two_factor.step_of(SECRET, code, datetime.fromtimestamp(seconds, zone)) == seconds // 30


@given(st.sampled_from(sorted(VECTORS.items())), st.integers(-10, 10))
def test_a_code_holds_two_steps_either_way(vector: tuple[int, str], steps: int) -> None:
    seconds, code = vector
    now = datetime.fromtimestamp(seconds, UTC) + timedelta(seconds=30 * steps)
    assert (two_factor.step_of(SECRET, code, now) is not None) == (abs(steps) <= 2)


@pytest.mark.parametrize(
    "code", ["", "0", "28708", "2870822", " 287082", "287082\n", "287 082", "٢٨٧٠٨٢", "\ud800", "287082\x00", "-87082"]
)
def test_other_texts_are_wrong(code: str) -> None:
    assert two_factor.step_of(SECRET, code, datetime.fromtimestamp(59, UTC)) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (SECRET, True),
        (SECRET.lower(), True),
        ("JBSWY3DPEHPK3PXP", True),
        ("JBSWY3DPEHPK3PXPAA======", True),
        ("JBSWY3DPEHPK3P", False),
        ("", False),
        ("=", False),
        ("JBSWY3DPEHPK3PX1", False),
        ("JBSW Y3DP EHPK 3PXP", False),
        ("JBSWY3DPEHPK3PXPA", False),
        ("ÄBSWY3DPEHPK3PXP", False),
    ],
)
def test_secrets_are_base32_of_at_least_ten_bytes(text: str, right: bool) -> None:
    assert two_factor.is_secret(text) == right
    if text and not right:
        assert two_factor.step_of(text, "287082", datetime.fromtimestamp(59, UTC)) is None
