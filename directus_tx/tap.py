"""The plugin for `twistd directus`: its options and its service."""

import os
from typing import Any

from directus_tx.importing import without_collections

with without_collections():
    from twisted.application.service import IServiceMaker, MultiService
    from twisted.internet import reactor
    from twisted.python import usage

    from directus_tx import config
    from directus_tx.backend import use_monotonic_clock, use_shared_lookups
    from directus_tx.checks import problems
    from directus_tx.process import StartError
    from directus_tx.workers import Worker, Workers

__all__ = ["IServiceMaker", "Options", "makeService"]


class Options(usage.Options):
    """The command-line options of `twistd directus`. They override the environment and the configuration file."""

    synopsis = "[options]"
    optParameters = (
        ("config", "c", None, "Configuration file (TOML). etc/directus.toml lists all settings."),
        ("data-dir", "d", None, "Directory of the projects, files and the embedded database (server.data_dir)."),
        ("processes", "p", None, "Number of processes that serve the addresses (server.processes).", int),
    )
    optFlags = (("demo", None, "Create the project `demo` with a small blog if it does not exist."),)

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to listen on, as a Twisted endpoint string. Can be repeated (server.listen)."""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def postOptions(self) -> None:
        overrides: dict[tuple[str, str], Any] = {}
        if self["data-dir"]:
            overrides["server", "data_dir"] = self["data-dir"]
        if self["processes"] is not None:
            overrides["server", "processes"] = self["processes"]
        if self["listen"]:
            overrides["server", "listen"] = self["listen"]
        try:
            self["settings"] = config.load(self["config"], os.environ, overrides)
        except config.ConfigError as error:
            raise usage.UsageError("the configuration is invalid:\n  " + "\n  ".join(error.mistakes)) from None

    @property
    def repeated(self) -> list[str]:
        """The options for a worker, which has the environment and the working directory of this process."""
        named = [f"--{name}={self[name]}" for name in ("config", "data-dir", "processes") if self[name] is not None]
        return [*named, *(f"--listen={each}" for each in self["listen"])]


def makeService(options: Options) -> MultiService:
    """Returns the service that twistd runs. If the server cannot start, ends the process with status 1 and a line for each problem."""
    settings = options["settings"]
    use_monotonic_clock(reactor)
    use_shared_lookups(reactor)
    worker = Worker.of_environment(os.environ)
    found = problems(settings) if worker is None else []
    if found:
        raise SystemExit("\n  ".join(["directus_tx: the server cannot start:", *found]))
    try:
        if worker is None and settings.server.processes > 1:
            return Workers(settings, reactor, options.repeated, ["--demo"] if options["demo"] else [])
        # Here, because the first of several processes answers no requests: without the rest of the server, it is smaller and starts sooner.
        with without_collections():
            from directus_tx.service import ApiService
        own = settings if worker is None else worker.share(settings)
        return ApiService(own, reactor, demo=bool(options["demo"]), worker=worker)
    except StartError as error:
        raise SystemExit(f"directus_tx: the server cannot start: {error}") from None
