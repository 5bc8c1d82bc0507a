"""Runs the background services of plugins."""

from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

STOPPING = 10.0
"""Seconds that a service of a plugin has to stop."""


class PluginService(Service):
    """Starts and stops a service of a plugin, an IService. If that fails, the log names the plugin, and the server goes on."""

    def __init__(self, reactor: Any, plugin: str, service: Any) -> None:
        self.reactor = reactor
        self.plugin = plugin
        self.service = service

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        try:
            self.service.startService()
        except Exception:
            self._failed(Failure(), "start")  # type: ignore[no-untyped-call]

    def stopService(self) -> "defer.Deferred[Any]":
        super().stopService()  # type: ignore[no-untyped-call]
        stopping = defer.maybeDeferred(self.service.stopService)
        stopping.addTimeout(STOPPING, self.reactor)
        stopping.addErrback(self._failed, "stop")
        return stopping

    def _failed(self, failure: Failure, what: str) -> None:
        log.failure("a service of the plugin {plugin} cannot {what}", failure, plugin=self.plugin, what=what)
