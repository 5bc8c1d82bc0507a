"""The connections that the pools on one database server may open together, shared with other server processes.

Each process calls itself ``directus_tx ID`` in application_name, which every role may read in pg_stat_activity. So each process can
count the others, and takes an equal share of the connections that PostgreSQL allows. A process is counted while it has a connection.
"""

import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.db.callers import CallerQueue
from directus_tx.db.connection import Connection, Parameters, Row, TooManyConnections
from directus_tx.db.long_reads import LongReads
from directus_tx.errors import ApiError

log = Logger()
SWEEP_INTERVAL = 1.0
"""Seconds between checks for connections that have been idle for too long or whose statements are overdue."""

COUNT_INTERVAL = 2.0
"""Seconds between counts of the processes and connections on the database server."""

REFUSED_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds to wait before PostgreSQL is asked again for a connection that it has refused because of a limit. The last one is repeated."""

MIN_SHARE = 2
"""The number of connections that a process always tries to open, however many processes there are."""

ALIVE_FOR = 3 * COUNT_INTERVAL
"""Seconds for which a process counts after it was seen last. One that opens connections all the time may have none for a moment."""

MARGIN = 10
"""The part of the connections, one in MARGIN and at most this number, that is left for other programs and for new processes."""

_NAME = "directus_tx "
_PATTERN = f"{_NAME}[0-9a-f]{{12}}$"

COUNT = f"""
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user AND NOT rolsuper AND rolconnlimit >= 0),
       count(*) FILTER (WHERE NOT ours),
       count(*) FILTER (WHERE NOT ours AND usename = session_user),
       array_to_string(array_agg(DISTINCT substr(application_name, length(application_name) - 11)) FILTER (WHERE ours), ' ')
FROM (SELECT usename, application_name, application_name ~ '{_PATTERN}' AS ours
      FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL) AS client
"""
"""Counts what shares the database server. Gives a row of: the connections that it allows, those that it allows the role (NULL: no
limit), those of other programs, those of other programs with the same role, and the ids of the processes of this
program, separated by spaces."""


def process_name(configured: str = "") -> str:
    """Returns a new application_name for this process, unique among all. It begins with the configured one, if any."""
    identity = _NAME + secrets.token_hex(6)
    # PostgreSQL truncates names to 63 bytes.
    kept = re.sub(r"[^ -~]", "?", configured)[: 62 - len(identity)].strip()
    return f"{kept} {identity}" if kept else identity


def share_of(slots: int, role_limit: int | None, others: int, others_of_role: int, processes: int) -> int:
    """Returns the number of connections that one of *processes* may open, given the first columns of a row of COUNT."""
    usable = slots - others - min(max(slots // MARGIN, 2), MARGIN)
    if role_limit is not None:
        # One is left for a new process, and for statements outside of the pools.
        usable = min(usable, role_limit - others_of_role - 1)
    return max(usable // processes, MIN_SHARE)


class Ceiling:
    """The number of connections that PostgreSQL has allowed, while it refuses more. `allowed` is infinity if it does not.

    After a refusal nothing is opened for a pause, which grows with each refusal. Then *retry* is called, and one more connection
    than before may be opened; with each that succeeds, another one.
    """

    def __init__(self, reactor: Any, retry: Callable[[], None]) -> None:
        self.allowed = math.inf
        self._reactor = reactor
        self._retry = retry
        self._refusals = 0
        self._timer: Any = None

    @property
    def pausing(self) -> bool:
        """Whether to open nothing at present."""
        return self._timer is not None

    def refused(self, number: int) -> None:
        """Notes that PostgreSQL has refused a connection while *number* others were open or being opened."""
        self.allowed = number
        if self._timer is None:
            pause = REFUSED_PAUSES[min(self._refusals, len(REFUSED_PAUSES) - 1)]
            self._refusals += 1
            self._timer = self._reactor.callLater(pause, self._try_again)

    def opened(self, limit: float) -> None:
        """Notes that a connection was opened. *limit* is the number that may be open if nothing is refused."""
        if self.allowed < math.inf:
            self._refusals = 0
            self.allowed += 1
            if self.allowed >= limit:
                self.allowed = math.inf

    def _try_again(self) -> None:
        self._timer = None
        self.allowed += 1
        self._retry()

    def stop(self) -> None:
        """Stops the timer of the pause."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Pool(Protocol):
    """What a budget needs of a pool; `pool.Database` is one."""

    parameters: Parameters
    connections: set[Connection]
    idle: deque[Connection]
    waiting: CallerQueue[Any]
    ceiling: Ceiling
    capacity: int
    turn: int
    closed: bool

    @property
    def size(self) -> int: ...
    @property
    def in_use(self) -> int: ...
    @property
    def wants(self) -> bool: ...

    def open(self) -> None: ...
    def resize(self) -> None: ...
    def close_idle(self, number: int) -> None: ...
    def close_excess(self) -> None: ...
    def close_overdue(self, now: float) -> None: ...
    def watch_standby(self) -> None: ...
    async def ask(self, statement: str) -> Row: ...


class ConnectionBudget:
    """The limit on open connections that the pools of one database server share.

    When it is reached, the connection of another pool that has been idle longest is closed first. If none is idle, the pools
    wait, and the one with the fewest connections in use is served first.

    If the budget is *shared*, it counts the processes and connections on the database server every COUNT_INTERVAL seconds, while
    it has a connection, and `limit` is the share of this process. Otherwise `limit` stays what it is. In both cases, less is used
    while PostgreSQL refuses connections, and requests wait meanwhile.
    """

    def __init__(self, reactor: Any, limit: int, idle_timeout: float = 60.0, *, shared: bool = False) -> None:
        self.reactor = reactor
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.shared = shared
        self.processes = 1
        self._seen: dict[str, float] = {}
        self.open = 0
        self.turn = 0
        self.databases: set[Pool] = set()
        self.long_reads = LongReads(reactor, lambda: self.limit)
        self.ceiling = Ceiling(reactor, self.serve)
        self._timer: Any = None
        self._serving = False
        self._counting = False
        self._count_at = 0.0

    # taking and giving back

    @property
    def exceeded(self) -> bool:
        """Whether more connections are open than the limit allows, because it was lowered."""
        return self.open > self.limit

    @property
    def _full(self) -> bool:
        return self.open >= min(self.limit, self.ceiling.allowed)

    def take(self, database: Pool) -> bool:
        """Returns whether *database* may open a connection. If so, the connection is counted as open."""
        self.databases.add(database)
        if self.ceiling.pausing or self.exceeded:
            return False
        if self._full:
            others = [d for d in self.databases if d.idle and d is not database]
            if not others:
                return False
            self.open += 1
            # The slot is counted before it is freed, so that no other waiting pool takes it.
            min(others, key=lambda d: d.idle[0].idle_since).close_idle(1)
        else:
            self.open += 1
        self._schedule()
        return True

    def give_back(self) -> None:
        """Frees the slot of a connection. A waiting pool may open one."""
        self.open -= 1
        self.serve()

    def refused(self, database: Pool, error: TooManyConnections) -> None:
        """Frees the slot of a connection that PostgreSQL has refused because of a limit."""
        self.open -= 1
        if error.database:
            database.ceiling.refused(database.size)
            self.serve()
            return
        if self.ceiling.allowed == math.inf:
            log.warn(
                "the database server allows no more connections; {open} of {limit} are open: {error}",
                open=self.open,
                limit=self.limit,
                error=str(error.__cause__).strip(),
            )
        self.ceiling.refused(self.open)
        self._count_at = 0.0
        self._start_counting()

    def opened(self, database: Pool) -> None:
        """Notes that a connection of *database* was opened."""
        self.ceiling.opened(self.limit)
        database.ceiling.opened(database.capacity)
        # The limits may have been lowered meanwhile.
        database.close_excess()
        self._close_excess()
        self._start_counting()
        self.serve()

    def serve(self) -> None:
        """Opens connections for waiting pools within the limits, first for the pool with the fewest connections in use."""
        if self._serving or self.ceiling.pausing:
            return
        self._serving = True
        try:
            while waiting := [d for d in self.databases if d.wants]:
                database = min(waiting, key=lambda d: (d.in_use, d.turn))
                if not self.take(database):
                    return
                database.open()
        finally:
            self._serving = False

    def wanted_elsewhere(self, database: Pool) -> bool:
        """Whether a connection that is released to *database* must be closed, so that another pool can open one. If no caller
        waits for *database*, this is so for any pool with waiting callers, otherwise only for one with fewer connections in
        use."""
        return self._full and any(
            d.wants and (not database.waiting or d.in_use < database.in_use) for d in self.databases if d is not database
        )

    # sharing

    def set_limit(self, limit: int, processes: int = 1) -> None:
        """Changes the limit. Idle connections above it are closed at once, connections in use when they are released."""
        changed = (limit, processes) != (self.limit, self.processes)
        if processes != self.processes:
            log.info(
                "{processes} processes share the database server; this one may open {limit} connections",
                processes=processes,
                limit=limit,
            )
        self.limit, self.processes = limit, processes
        if self.ceiling.allowed >= limit:
            self.ceiling.allowed = math.inf
        if not changed:
            return
        for database in list(self.databases):
            database.resize()
        self._close_excess()
        self.serve()

    def _close_excess(self) -> None:
        """Closes idle connections above the limit, beginning with the one that has been idle longest."""
        while self.exceeded and (idle := [d for d in self.databases if d.idle]):
            min(idle, key=lambda d: d.idle[0].idle_since).close_idle(1)

    def share(self, row: Any) -> None:
        """Changes the limit to the share of this process. *row* is a row of COUNT."""
        slots, role_limit, others, others_of_role, ids = row
        now = time.monotonic()
        self._seen |= dict.fromkeys((ids or "").split(), now)
        self._seen = {each: seen for each, seen in self._seen.items() if seen > now - ALIVE_FOR}
        processes = max(len(self._seen), 1)
        users = {database.parameters.get("user") for database in self.databases}
        if len(users) > 1:
            # The limit of one role does not apply to the pools of another.
            role_limit = None
        self.set_limit(share_of(slots, role_limit, others, others_of_role, processes), processes)

    def _start_counting(self) -> None:
        """Counts what shares the database server, if it is time to. Prefers a pool with an idle connection."""
        now = time.monotonic()
        if not self.shared or self._counting or now < self._count_at:
            return
        usable = [d for d in self.databases if d.connections and not d.closed]
        if not usable:
            return
        self._counting = True
        self._count_at = now + COUNT_INTERVAL
        defer.ensureDeferred(self._count(max(usable, key=lambda d: (len(d.idle), len(d.connections)))))

    async def _count(self, database: Pool) -> None:
        try:
            self.share(await database.ask(COUNT))
        except ApiError as error:
            log.warn("cannot count the connections of the database server: {error}", error=error)
        except Exception:
            log.failure("counting the connections of the database server")
        finally:
            self._counting = False

    # timers

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        try:
            for database in list(self.databases):
                database.close_overdue(now)
                database.watch_standby()
                database.close_idle(sum(connection.idle_since <= now - self.idle_timeout for connection in database.idle))
                if not database.size and not database.waiting:
                    self.databases.discard(database)
            self._start_counting()
        finally:
            if self.open:
                self._schedule()

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self.reactor.callLater(min(SWEEP_INTERVAL, max(self.idle_timeout / 2, 0.1)), self._sweep)

    def stop(self) -> None:
        """Stops the timers."""
        self.ceiling.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
