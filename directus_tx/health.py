"""Whether the server can answer requests, for load balancers and monitoring: the health report of the IETF draft "Health Check Response
Format for HTTP APIs"."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import frozen
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx import __version__
from directus_tx.embedded import Supervisor
from directus_tx.errors import ServiceUnavailable
from directus_tx.projects.registry import Projects

log = Logger()

API_VERSION = "8"
PASS, WARN, FAIL = "pass", "warn", "fail"

FRESH_FOR = 1.0
"""Seconds for which the result of a check is used again."""

CHECK_TIMEOUT = 2.0
"""Seconds within which the database server must answer."""


@frozen
class Report:
    """A health report: `ready` says whether the server should be sent requests, `document` is the report for the client."""

    ready: bool
    document: Mapping[str, Any]


@frozen
class _Checked:
    """What a check has found: the error of the database server, or None if it answered after `seconds`; and the state of each project,
    with the error if it is failing. `basis` is what was known before."""

    basis: tuple[Any, ...]
    error: str | None
    seconds: float
    projects: Mapping[str, tuple[str, str]]
    at: datetime


class Health:
    """Makes health reports. A report opens no connection of its own: all reports within FRESH_FOR seconds share one check, in which the
    database server is asked once.

    `stopping` is set when the server begins to stop. *supervisor* is the one of the embedded database, None if there is none.
    """

    def __init__(self, projects: Projects, supervisor: Supervisor | None = None) -> None:
        self.projects = projects
        self.supervisor = supervisor
        self.stopping = False
        self._checked: _Checked | None = None
        self._until = 0.0
        self._waiting: list[defer.Deferred[None]] = []

    async def report(self, *, detailed: bool) -> Report:
        """Returns the report. Only a *detailed* one contains the version of the program, messages of errors and the keys of failing
        projects."""
        found = await self._check()
        checks: dict[str, list[dict[str, Any]]] = {}
        at = found.at.isoformat(timespec="milliseconds")

        def add(name: str, status: str, kind: str = "component", output: str | None = None, **more: Any) -> None:
            entry = {"componentType": kind, **more, "status": status, "time": at}
            if output and detailed:
                entry["output"] = output
            checks.setdefault(name, []).append(entry)

        if self.supervisor is not None:
            up = self.supervisor.up
            reason = "" if up else self.projects.availability.reason or "It does not run and is being started."
            add("postgresql:embedded", PASS if up else FAIL, "datastore", reason)
        if found.error is None:
            add("database", PASS, "datastore", observedValue=round(found.seconds * 1000, 1), observedUnit="ms")
        else:
            add("database", FAIL, "datastore", found.error)
        for state in ("ready", "pending", "failing"):
            members = [key for key, (each, _) in found.projects.items() if each == state]
            status = WARN if state == "failing" and members else PASS
            add(f"projects:{state}", status, observedValue=len(members), observedUnit="projects")
            if state == "failing" and detailed:
                for key in members:
                    add("projects:failing", FAIL, output=found.projects[key][1], componentId=key)
        statuses = {entry["status"] for entries in checks.values() for entry in entries if "componentId" not in entry}
        status = FAIL if FAIL in statuses or self.stopping else WARN if WARN in statuses else PASS
        document: dict[str, Any] = {"status": status, "version": API_VERSION}
        if detailed:
            document["releaseId"] = __version__
        output = self._output(found)
        if output:
            document["output"] = output
        return Report(status != FAIL, document | {"checks": checks})

    def _output(self, found: _Checked) -> str:
        """Returns why the server is not ready, in words that anybody may read."""
        if self.stopping:
            return "The server is stopping."
        if not self.projects.availability.ready:
            return self.projects.availability.message
        return "" if found.error is None else "The database server does not answer."

    async def _check(self) -> _Checked:
        """Returns the result of the last check if it is fresh, otherwise that of a new one, which concurrent callers share."""
        while self._checked is None or time.monotonic() >= self._until or self._checked.basis != self._basis():
            waiter: defer.Deferred[None] = defer.Deferred()
            self._waiting.append(waiter)
            if len(self._waiting) == 1:
                defer.Deferred.fromCoroutine(self._check_now()).addBoth(self._wake)
            await waiter
        return self._checked

    def _basis(self) -> tuple[Any, ...]:
        """What is known without a check: if it changes, the last check is not valid any more."""
        availability = self.projects.availability
        return availability.ready, availability.reason, self.supervisor is None or self.supervisor.up

    def _wake(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(result)

    async def _check_now(self) -> None:
        basis = self._basis()
        began = time.monotonic()
        error: str | None = None
        availability = self.projects.availability
        if not availability.ready:
            error = availability.reason or availability.message
        elif self.supervisor is not None and not self.supervisor.up:
            error = "The embedded PostgreSQL does not run."
        else:
            try:
                await self.projects.databases.check(CHECK_TIMEOUT)
            except ServiceUnavailable as refused:
                error = f"{refused.message} {refused.__cause__ or ''}".strip()
            except Exception as unexpected:
                log.failure("asking the database server")
                error = str(unexpected)
        ended = time.monotonic()
        self._checked = _Checked(basis, error, ended - began, self.projects.states(), datetime.now(UTC))
        self._until = ended + FRESH_FOR
