"""The JavaScript client of Directus 8, `@directus/sdk-js`, as an object of Python: a process of node performs the calls."""

import base64
import json
import pathlib
import select
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Any

import pytest

HERE = pathlib.Path(__file__).parent
MODULES = pathlib.Path(sys.prefix) / "javascript" / "node_modules"
"""Where `make test` installs what package-lock.json names."""

NODE = shutil.which("node")
needs_javascript = pytest.mark.skipif(
    not (NODE and (MODULES / "@directus" / "sdk-js").exists()),
    reason="the JavaScript client is not installed; `make test` installs it if there are node and npm (Debian: apt-get install nodejs npm)",
)
PATIENCE = 120
"""Seconds after which a call without an answer fails."""


class SdkError(Exception):
    """An error that the client has raised. `code` is the code of the API as a text, "-1" if there is none; `status` that of the answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.name = error["name"]
        self.code = error.get("code")
        self.status = error.get("status")


class Node:
    """A process of node in which clients are made."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [str(NODE), str(HERE / "bridge.js")],
            env={"NODE_PATH": str(MODULES), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.clients = 0

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(PATIENCE)

    def call(self, client: str, method: str, *arguments: Any) -> Any:
        """Returns what a call has given. Raises SdkError if it has failed."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"client": client, "method": method, "arguments": arguments}).encode() + b"\n")
        stdin.flush()
        # One call has one line of answer, so none is in the buffer.
        assert select.select([stdout], [], [], PATIENCE)[0], f"{method} is not answered"
        answer = json.loads(stdout.readline())
        if "error" in answer:
            raise SdkError(answer["error"])
        value = answer["value"]
        return base64.b64decode(value["base64"]) if isinstance(value, dict) and set(value) == {"base64"} else value

    def client(self, url: str, project: str, **options: Any) -> "Sdk":
        """A new client. *options* are those of the constructor of SDK."""
        self.clients += 1
        name = f"client-{self.clients}"
        self.call(name, "new", {"url": url, "project": project, **options})
        return Sdk(self, name)


class Sdk:
    """A client. Its methods are those of SDK; `api.post` and the like are called with `at`."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._name = name

    def __getattr__(self, method: str) -> Any:
        return self.at(method)

    def at(self, method: str) -> Any:
        return lambda *arguments: self._node.call(self._name, method, *arguments)

    def value(self, path: str) -> Any:
        """A property of the client, "config.token" for example."""
        return self._node.call(self._name, "get", path)

    def assign(self, path: str, value: Any) -> None:
        """Sets a property of the client."""
        self._node.call(self._name, "set", path, value)


PAGE = """
<!doctype html>
<title>A page</title>
<script src="base64.js"></script>
<script src="axios.js"></script>
<script src="sdk.js"></script>
"""


def write_page(directory: pathlib.Path) -> None:
    """Writes a page that has the client as the global DirectusSDK, from its bundle for browsers."""
    directory.mkdir()
    bundles = {
        "base64.js": "base-64/base64.js",
        "axios.js": "axios/dist/axios.js",
        "sdk.js": "@directus/sdk-js/dist/umd/directus-sdk.js",
    }
    for name, source in bundles.items():
        shutil.copy(MODULES / source, directory / name)
    (directory / "index.html").write_text(PAGE)
