"""What a service is told beside its arguments: who asks, of which project, with which schema, over which connection."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve, field, frozen

from directus_tx.config import LimitSettings
from directus_tx.plugins import NO_PLUGINS, Plugins
from directus_tx.schema.model import Snapshot

if TYPE_CHECKING:
    from directus_tx.accounts.passwords import PasswordHasher
    from directus_tx.db import Session
    from directus_tx.rules import CollectionRules

T = TypeVar("T")
ADMINISTRATOR = 1
PUBLIC = 2


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
        """Whether nobody is signed in. (Who sits at the server's own command line is no user, but has a role.)"""
        return self.user is None and self.role is None


@frozen
class Context:
    """Frozen, and passed, never looked up. `project` is the key; `now` the request's time in UTC, without microseconds."""

    project: str
    schema: Snapshot
    accountability: Accountability
    now: datetime
    db: "Session"
    request_id: str = ""
    rules: "Mapping[str, CollectionRules]" = field(factory=dict)
    hasher: "PasswordHasher | None" = None
    limits: LimitSettings = field(factory=LimitSettings)
    plugins: Plugins = NO_PLUGINS

    async def transaction(self, work: "Callable[[Context], Awaitable[T]]") -> T:
        """What *work* gives, called with this context over one transaction: all of its statements or none.
        Within a transaction already, *work* joins it."""
        return await self.db.transaction(lambda session: work(evolve(self, db=session)))
