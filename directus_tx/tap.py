"""The plugin for `twistd directus`: its options and its service."""

import os
from typing import Any

from twisted.application.service import IServiceMaker, MultiService
from twisted.internet import reactor
from twisted.python import usage

from directus_tx import config
from directus_tx.checks import problems
from directus_tx.service import ApiService, StartError, use_monotonic_clock, use_shared_lookups

__all__ = ["IServiceMaker", "Options", "makeService"]


class Options(usage.Options):
    """The command-line options of `twistd directus`. They override the environment and the configuration file."""

    synopsis = "[options]"
    optParameters = (
        ("config", "c", None, "Configuration file (TOML). etc/directus.toml lists all settings."),
        ("data-dir", "d", None, "Directory of the projects, files and the embedded database (server.data_dir)."),
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
        if self["listen"]:
            overrides["server", "listen"] = self["listen"]
        try:
            self["settings"] = config.load(self["config"], os.environ, overrides)
        except config.ConfigError as error:
            raise usage.UsageError("the configuration is invalid:\n  " + "\n  ".join(error.mistakes)) from None


def makeService(options: Options) -> MultiService:
    """Returns the service that twistd runs. If the server cannot start, ends the process with status 1 and a line for each problem."""
    use_monotonic_clock(reactor)
    use_shared_lookups(reactor)
    found = problems(options["settings"])
    if found:
        raise SystemExit("\n  ".join(["directus_tx: the server cannot start:", *found]))
    try:
        return ApiService(options["settings"], reactor, demo=bool(options["demo"]))
    except StartError as error:
        raise SystemExit(f"directus_tx: the server cannot start: {error}") from None
