"""`twistd directus`: its options, and the service that they make."""

import os
from typing import Any

from twisted.application.service import IServiceMaker, MultiService
from twisted.internet import reactor
from twisted.python import usage

from directus_tx import config
from directus_tx.service import ApiService

__all__ = ["IServiceMaker", "Options", "makeService"]


class Options(usage.Options):
    """What `twistd directus` takes on its command line; it wins over the environment and the file."""

    synopsis = "[options]"
    optParameters = (
        ("config", "c", None, "The configuration, a TOML file. etc/directus.toml shows every setting."),
        ("data-dir", "d", None, "Where projects, files and the embedded database live (server.data_dir)."),
    )
    optFlags = (("demo", None, "Make a project `demo` with a small blog, at the first start."),)

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen, an endpoint string of Twisted; may be given several times (server.listen)."""
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
            raise usage.UsageError("the configuration is wrong:\n  " + "\n  ".join(error.mistakes)) from None


def makeService(options: Options) -> MultiService:
    """The service that twistd runs."""
    return ApiService(options["settings"], reactor, demo=bool(options["demo"]))
