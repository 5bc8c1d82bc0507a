"""Who asks, of which project, with which schema, when, over which session. Everything that belongs to one request, and nothing else."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrs import evolve, frozen

from directus_tx.db.session import Session
from directus_tx.query import BindValues, Query
from directus_tx.schema.model import Snapshot

T = TypeVar("T")
ADMINISTRATOR = 1
PUBLIC = 2


def moment(seconds: float) -> datetime:
    """What a clock says in seconds since 1970, as an aware time in UTC without microseconds."""
    return datetime.fromtimestamp(int(seconds), UTC)


@frozen
class Accountability:
    """Who asks: the user and role (None for the public), and from where. `ip` and `user_agent` go into the history."""

    user: int | None = None
    role: int | None = None
    ip: str = ""
    user_agent: str = ""

    @property
    def admin(self) -> bool:
        return self.role == ADMINISTRATOR

    @property
    def public(self) -> bool:
        """Whether nobody is signed in. (The `directus` command has a role, but no user.)"""
        return self.user is None and self.role is None


@frozen
class Context:
    """One request's context: frozen, and passed on. `project` is the key; `now` the time of the
    request, aware, in UTC, without microseconds."""

    project: str
    schema: Snapshot
    accountability: Accountability
    now: datetime
    db: Session
    request_id: str = ""

    async def transaction(self, work: "Callable[[Context], Awaitable[T]]") -> T:
        """What *work* gives, called with this context over one transaction: all of its statements or none.
        Within a transaction already, *work* joins it."""
        return await self.db.transaction(lambda session: work(evolve(self, db=session)))

    def bind_values(
        self, query: Query | None = None, keys: Sequence[Any] = (), limit: int | None = None, offset: int = 0
    ) -> BindValues:
        """What the placeholders of compiled statements are bound to in this request."""
        return BindValues(query or Query(), keys, limit, offset, self.now, self.accountability.user)
