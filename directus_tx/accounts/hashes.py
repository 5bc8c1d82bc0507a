"""Hashes of passwords: Argon2id for new ones, and the bcrypt hashes of Directus 8, which are checked.

The functions here hash in the caller's thread. `passwords` runs them on threads of its own.
"""

import re

import argon2
import bcrypt

from directus_tx.errors import InvalidRequest
from directus_tx.schema.types import MAX_HASHED

MAX_HASH_LENGTH = 1024
MAX_BCRYPT_COST = 12
"""bcrypt takes twice as long with each step of its cost; with this one a fifth of a second."""

MAX_ARGON2_MEMORY = 65536
"""Argon2's m, in KiB: 64 MiB. It is the default of PHP and of RFC 9106's second choice."""

MAX_ARGON2_WORK = 4 * MAX_ARGON2_MEMORY
"""Argon2's m times t, KiB written: as long as a fifth of a second."""

MAX_ARGON2_LANES = 4
"""Argon2's p: each lane is a thread."""

KIND = r"^(\$2[aby]\$\d\d|\$argon2(?:id|i|d)(?:\$v=\d+)?\$m=[1-9]\d*,t=[1-9]\d*,p=[1-9]\d*)"
"""The beginning of a hash that says how it was made, as a regular expression of both Python and PostgreSQL."""

_HASH = re.compile(KIND[1:] + r"(\$[./A-Za-z0-9]{53}|\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,})", re.ASCII)
_COSTS = re.compile(r"\$2.\$(?P<cost>\d\d)|\$argon2.*\$m=(?P<memory>\d+),t=(?P<passes>\d+),p=(?P<lanes>\d+)")
_DIGITS = 9
"""More digits than any cost has that is allowed."""

# OWASP's recommendation for Argon2id; more memory for each hash would let a few sign-ins at once take all of the server's.
_ARGON2 = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
CURRENT = f"$argon2id$v=19$m={_ARGON2.memory_cost},t={_ARGON2.time_cost},p={_ARGON2.parallelism}"
"""The kind of new hashes."""


def hash_argon2(text: str) -> str:
    """The Argon2id hash of a text, as new passwords are stored."""
    return _ARGON2.hash(_encoded(text))


def hash_bcrypt(text: str, cost: int) -> str:
    """The bcrypt hash of a text as PHP writes it: "$2y$", of the text's first 72 bytes."""
    return "$2y$" + bcrypt.hashpw(_encoded(text)[:72], bcrypt.gensalt(cost)).decode()[4:]


def kind_of(hashed: str) -> str | None:
    """How a hash was made: its algorithm and costs, as it begins with them; None where it is no hash that can be checked."""
    found = _HASH.fullmatch(hashed)
    return found[1] if found else None


def matches(text: str, hashed: str) -> bool:
    """Whether a hash is that of a text; False for what is no hash."""
    kind = kind_of(hashed)
    if kind is None:
        return False
    if kind.startswith("$2"):
        # PHP writes $2y$ for what the others call $2b$, and both cut a text at 72 bytes.
        try:
            return bcrypt.checkpw(_encoded(text)[:72], b"$2b$" + hashed[4:].encode())
        except ValueError:
            return False
    try:
        return _ARGON2.verify(hashed, _encoded(text))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def is_outdated(hashed: str) -> bool:
    """Whether a hash was made in another way than new ones are."""
    return not hashed.startswith("$argon2id$") or _ARGON2.check_needs_rehash(hashed)


def decoy(kind: str) -> str:
    """A hash of a kind that no known text has. Checking it takes as long as checking others of that kind."""
    return f"{kind}${'.' * 53}" if kind.startswith("$2") else f"{kind}${'A' * 22}${'A' * 43}"


def excess(kind: str) -> str | None:
    """What a kind asks for beyond the limits, in words; None where it keeps within them."""
    found = _COSTS.match(kind)
    if found is None:
        return None
    cost, memory, passes, lanes = (_number(found[name]) for name in ("cost", "memory", "passes", "lanes"))
    if cost > MAX_BCRYPT_COST:
        return f"bcrypt's cost is at most {MAX_BCRYPT_COST}"
    if memory > MAX_ARGON2_MEMORY:
        return f"Argon2's m is at most {MAX_ARGON2_MEMORY}"
    if memory * passes > MAX_ARGON2_WORK:
        return f"Argon2's m times t is at most {MAX_ARGON2_WORK}"
    if lanes > MAX_ARGON2_LANES:
        return f"Argon2's p is at most {MAX_ARGON2_LANES}"
    return None


def check_hash(hashed: str) -> None:
    """Raises InvalidRequest for a hash of a client's that would take too much time or memory to check."""
    if len(hashed) > MAX_HASH_LENGTH:
        raise InvalidRequest(f"A hash has at most {MAX_HASH_LENGTH} characters.")
    kind = kind_of(hashed)
    beyond = excess(kind) if kind else None
    if beyond:
        raise InvalidRequest(f"Checking this hash would take too much: {beyond}.")


def check_length(text: str) -> None:
    """Raises InvalidRequest for a text that is too long to be hashed."""
    if len(text) > MAX_HASHED:
        raise InvalidRequest(f"A text to be hashed has at most {MAX_HASHED} characters.")


def _number(digits: str | None) -> int:
    return int((digits or "0")[: _DIGITS + 1])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
