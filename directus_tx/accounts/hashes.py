"""Password hashes: new ones are Argon2id; the bcrypt hashes of Directus 8 can be checked.

These functions hash in the thread of the caller. `passwords` runs them in thread pools.
"""

import re

import argon2
import bcrypt

from directus_tx.errors import InvalidRequest
from directus_tx.schema.parsing import MAX_HASHED

MAX_HASH_LENGTH = 1024
MAX_BCRYPT_COST = 12
"""Each step of bcrypt's cost doubles the time. With this cost a hash takes a fifth of a second."""

MAX_ARGON2_MEMORY = 65536
"""Argon2's m in KiB: 64 MiB, the default of PHP and the second recommended option of RFC 9106."""

MAX_ARGON2_WORK = 4 * MAX_ARGON2_MEMORY
"""Argon2's m times t, the KiB written: takes a fifth of a second."""

MAX_ARGON2_LANES = 4
"""Argon2's p. Each lane is a thread."""

KIND = r"^(\$2[aby]\$\d\d|\$argon2(?:id|i|d)(?:\$v=\d+)?\$m=[1-9]\d*,t=[1-9]\d*,p=[1-9]\d*)"
"""Matches the beginning of a hash, which holds the algorithm and its costs. Valid in Python and in PostgreSQL."""

_HASH = re.compile(KIND[1:] + r"(\$[./A-Za-z0-9]{53}|\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,})", re.ASCII)
_COSTS = re.compile(r"\$2.\$(?P<cost>\d\d)|\$argon2.*\$m=(?P<memory>\d+),t=(?P<passes>\d+),p=(?P<lanes>\d+)")
_DIGITS = 9
"""More digits than any allowed cost has."""

# OWASP's recommendation for Argon2id. With more memory for each hash, a few concurrent sign-ins could use up the memory of the
# server.
_ARGON2 = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
CURRENT = f"$argon2id$v=19$m={_ARGON2.memory_cost},t={_ARGON2.time_cost},p={_ARGON2.parallelism}"
"""The kind of new hashes, as `kind_of` returns it."""


def hash_argon2(text: str) -> str:
    """Returns the Argon2id hash of a text, the kind used for new passwords."""
    return _ARGON2.hash(_encoded(text))


def hash_bcrypt(text: str, cost: int) -> str:
    """Returns the bcrypt hash of a text as PHP writes it: with "$2y$", and of the first 72 bytes only."""
    return "$2y$" + bcrypt.hashpw(_encoded(text)[:72], bcrypt.gensalt(cost)).decode()[4:]


def kind_of(hashed: str) -> str | None:
    """Returns the beginning of a hash, which holds its algorithm and costs, or None if it is not a hash that can be checked."""
    found = _HASH.fullmatch(hashed)
    return found[1] if found else None


def matches(text: str, hashed: str) -> bool:
    """Whether a hash belongs to a text. False if *hashed* is not a hash."""
    kind = kind_of(hashed)
    if kind is None:
        return False
    if kind.startswith("$2"):
        # PHP's $2y$ is called $2b$ elsewhere. Both use only the first 72 bytes of a text.
        try:
            return bcrypt.checkpw(_encoded(text)[:72], b"$2b$" + hashed[4:].encode())
        except ValueError:
            return False
    try:
        return _ARGON2.verify(hashed, _encoded(text))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def is_outdated(hashed: str) -> bool:
    """Whether the algorithm or the costs of a hash differ from those of new hashes."""
    return not hashed.startswith("$argon2id$") or _ARGON2.check_needs_rehash(hashed)


def decoy(kind: str) -> str:
    """Returns a hash of a kind that matches no known text. Checking it takes as long as checking other hashes of that kind."""
    return f"{kind}${'.' * 53}" if kind.startswith("$2") else f"{kind}${'A' * 22}${'A' * 43}"


def excess(kind: str) -> str | None:
    """Returns the limit that the costs of a kind exceed, in words, or None if they are within the limits."""
    found = _COSTS.match(kind)
    if found is None:
        return None
    cost, memory, passes, lanes = (_number(found[name]) for name in ("cost", "memory", "passes", "lanes"))
    if cost > MAX_BCRYPT_COST:
        return f"the cost of bcrypt must be at most {MAX_BCRYPT_COST}"
    if memory > MAX_ARGON2_MEMORY:
        return f"m of Argon2 must be at most {MAX_ARGON2_MEMORY}"
    if memory * passes > MAX_ARGON2_WORK:
        return f"m times t of Argon2 must be at most {MAX_ARGON2_WORK}"
    if lanes > MAX_ARGON2_LANES:
        return f"p of Argon2 must be at most {MAX_ARGON2_LANES}"
    return None


def check_hash(hashed: str) -> None:
    """Raises InvalidRequest if checking a hash sent by a client would take too much time or memory."""
    if len(hashed) > MAX_HASH_LENGTH:
        raise InvalidRequest(f"A hash must have at most {MAX_HASH_LENGTH} characters.")
    kind = kind_of(hashed)
    beyond = excess(kind) if kind else None
    if beyond:
        raise InvalidRequest(f"Checking this hash would take too much time or memory: {beyond}.")


def check_length(text: str) -> None:
    """Raises InvalidRequest if a text is too long to be hashed."""
    if len(text) > MAX_HASHED:
        raise InvalidRequest(f"A text to be hashed must have at most {MAX_HASHED} characters.")


def _number(digits: str | None) -> int:
    return int((digits or "0")[: _DIGITS + 1])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
