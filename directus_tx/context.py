"""The context of a request: who makes it, for which project, with which schema, when, and over which database session."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrs import evolve, frozen

from directus_tx.db.session import Session
from directus_tx.errors import ReadOnlyDatabase
from directus_tx.query import BindValues, Query
from directus_tx.schema.model import Snapshot
from directus_tx.sealing import Keys
from directus_tx.slices import in_slices

T = TypeVar("T")
ADMINISTRATOR = 1
PUBLIC = 2


def moment(seconds: float) -> datetime:
    """Returns a time in seconds since 1970 as an aware datetime in UTC, without microseconds."""
    return datetime.fromtimestamp(int(seconds), UTC)


def current_time() -> datetime:
    """Returns the time of the system clock as `moment` does. The system clock may be set back or forward: measure intervals with the
    reactor's clock instead."""
    return moment(time.time())


_NO_QUERY = Query()


@frozen
class Scope:
    """What a token is limited to. `read_only`: nothing can be written with it. `collections` are those whose items it is for; None: all. A
    scope that limits nothing is false."""

    read_only: bool = False
    collections: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return self.read_only or self.collections is not None

    def includes(self, collection: str) -> bool:
        """Whether items of a collection can be read."""
        return self.collections is None or collection in self.collections


JWT, COOKIE, NAMED, STATIC = "jwt", "cookie", "named", "static"
"""The kinds of credentials. NAMED are the tokens of users beside the static one."""


@frozen
class Credential:
    """What identifies a caller: the `kind`, and when it `expires` in seconds since 1970, None if it does not. `id` is that of the session
    of a cookie, or that of a named token."""

    kind: str
    id: int | None = None
    expires: float | None = None


@frozen
class Accountability:
    """Who makes a request: the user and role (None for the public). `ip` and `user_agent` are recorded in the activity. `session` is the id
    of the session in which the user makes it, None with a static token. `scope` is what the token of the request is limited to, None if it
    is not. With a limited token, nobody is an administrator. `credential` is what identifies the user, None for the public and for the
    server itself."""

    user: int | None = None
    role: int | None = None
    ip: str = ""
    user_agent: str = ""
    session: int | None = None
    scope: Scope | None = None
    credential: Credential | None = None

    @property
    def admin(self) -> bool:
        return self.role == ADMINISTRATOR and self.scope is None

    @property
    def public(self) -> bool:
        """Whether the caller is not signed in. (The `directus` command has a role, but no user.)"""
        return self.user is None and self.role is None


@frozen(cache_hash=True)
class EnabledPlugins:
    """The plugins that are enabled in a project: those named in `enabled` (None: all), without those named in `disabled`."""

    enabled: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()

    def includes(self, name: str) -> bool:
        """Whether a plugin is enabled."""
        return name not in self.disabled and (self.enabled is None or name in self.enabled)


ALL_PLUGINS = EnabledPlugins()


@frozen
class Context:
    """The context of a request, passed as an argument. `project` is its key, `keys` are its secret keys; `now` is the
    time of the request, aware, in UTC, without microseconds."""

    project: str
    schema: Snapshot
    accountability: Accountability
    now: datetime
    db: Session
    keys: Keys
    request_id: str = ""
    site: Callable[[], str] = str
    """Returns the URL of the project as the client reaches it, for example "https://example.com/blog"."""

    plugins: EnabledPlugins = ALL_PLUGINS
    """The plugins that are enabled in the project."""

    depth: int = 0
    """The number of calls of hooks of plugins that the context is in."""

    def in_slices(self, items: Iterable[T]) -> AsyncIterator[T]:
        """Yields the items and lets the reactor serve other requests in between. For work on items whose number clients choose."""
        return in_slices(self.db.database.reactor, items)

    async def transaction(self, work: "Callable[[Context], Awaitable[T]]") -> T:
        """Calls *work* with this context in a transaction and returns its result. If a transaction has begun already, *work*
        becomes part of it. Raises ReadOnlyDatabase if the server's role may only read."""
        self._check_writable()
        return await self.db.transaction(lambda session: work(evolve(self, db=session)))

    async def schema_change(self, work: "Callable[[Context], Awaitable[T]]") -> T:
        """Calls *work* with this context in a `Session.schema_change` and returns its result. Raises ReadOnlyDatabase if the server's role
        may only read."""
        self._check_writable()
        return await self.db.schema_change(lambda session: work(evolve(self, db=session)))

    def _check_writable(self) -> None:
        if self.schema.read_only:
            raise ReadOnlyDatabase

    def bind_values(
        self, query: Query | None = None, keys: Sequence[Any] = (), limit: int | None = None, offset: int = 0
    ) -> BindValues:
        """Returns the bind values of compiled statements in this request."""
        return BindValues(query or _NO_QUERY, keys, limit, offset, self.now, self.accountability.user, self.site)
