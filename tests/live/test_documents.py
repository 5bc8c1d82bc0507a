"""The commands in the documentation, run as a reader would, and their answers compared. "..." stands for what differs."""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from directus_tx.webhooks.signing import new_secret, signed_headers
from tests.daemon import BIN, Daemon, free_port, wait_for

ROOT = pathlib.Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8080"
END = "=====end of a command====="


def blocks(text: str, language: str) -> list[str]:
    """Returns the contents of the code blocks of a language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?: {{4}}.*)?\n)+)", text + "\n", re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip("\n") for block in found]


def steps(text: str) -> list[tuple[str, str]]:
    """Returns the commands of a document with the output that it shows for each, prompts as in a shell: "$ " and "> "."""
    found: list[tuple[str, str]] = []
    for line in "\n".join(blocks(text, "console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> "):
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def run(document: str, daemon: Daemon, environment: dict[str, str], replaced: Mapping[str, str] | None = None) -> int:
    """Runs the commands of a document in one shell and compares what they print. *replaced* are texts in them that are others here. Returns
    their number."""
    text = (ROOT / document).read_text().replace(ADDRESS, daemon.base)
    for other, own in (replaced or {}).items():
        text = text.replace(other, own)
    commands = steps(text)
    script = "\n".join(f"{command}\necho; echo '{END}'" for command, _ in commands)
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=daemon.directory,
        env=os.environ | {"PATH": path} | environment,
        timeout=120,
    )
    printed = [part.strip() for part in done.stdout.split(f"{END}\n")]
    assert printed.pop() == "", done.stderr
    for (command, wanted), got in zip(commands, printed, strict=True):
        pattern = ".*".join(re.escape(part) for part in wanted.strip().split("..."))
        assert re.fullmatch(pattern, got, re.DOTALL), (command, wanted, got, done.stderr)
    return len(commands)


@pytest.fixture
def demo(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path, "--demo").start()
    yield found
    assert found.stop() == 0


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path).start()
    yield found
    assert found.stop() == 0


def test_the_readme_tells_the_truth(demo: Daemon) -> None:
    wait_for(lambda: "(shown this once)\n\n" in demo.output.partition("  password ")[2])
    (password,) = re.findall(r"  password\s+(\S+)", demo.output)
    assert run("README.rst", demo, {"PASSWORD": password}) == 6


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine (Debian: apt-get install nodejs)")
def test_the_tutorial_tells_the_truth(daemon: Daemon) -> None:
    (program,) = blocks((ROOT / "docs/tutorial.rst").read_text(), "javascript")
    (daemon.directory / "import.mjs").write_text(program)
    assert run("docs/tutorial.rst", daemon, {}) > 15


def test_the_page_on_operating_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/operating.rst", daemon, {}) == 7


def test_the_page_on_performance_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/performance.rst", daemon, {}) == 6


def test_the_page_on_graphql_tells_the_truth(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["DIRECTUS_GRAPHQL_MUTATIONS"] = "on"
    daemon.start()
    assert run("docs/graphql.rst", daemon, {"DIRECTUS_GRAPHQL_MUTATIONS": "on"}) == 24
    assert daemon.stop() == 0


def test_the_page_on_scim_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/scim.rst", daemon, {}) == 12


@pytest.mark.skipif(shutil.which("psql") is None, reason="no psql on this machine (Debian: apt-get install postgresql-client)")
def test_the_page_on_existing_databases_tells_the_truth(daemon: Daemon, postgres: dict[str, Any]) -> None:
    environment = {"PGHOST": str(postgres["host"]), "PGUSER": str(postgres["user"])}
    assert run("docs/existing.rst", daemon, environment) > 12


def test_the_page_on_files_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/files.rst", daemon, {}) == 14


def test_the_page_on_thumbnails_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/thumbnails.rst", daemon, {}) == 9


def test_the_page_on_private_assets_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/private_assets.rst", daemon, {}) > 13
    # The server of a web site, with its token and a picture.
    _, _, token = (daemon.directory / "ada.curl").read_text().strip().strip('"').partition("bearer ")
    pixel = {"filename_disk": "a.gif", "filename_download": "a.gif", "data": "R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="}
    numbers = [daemon.call("POST", "/shop/files", pixel, token)["data"]["id"] for _ in range(2)]
    (program,) = blocks((ROOT / "docs/private_assets.rst").read_text(), "python")
    site: dict[str, Any] = {}
    exec(program.replace(ADDRESS, daemon.base), site)
    for shown in (numbers, numbers[:1]):
        pictures = re.findall('<img src="([^"]*)"', site["page"](token, shown))
        assert len(pictures) == len(shown)
        for each in pictures:
            with urllib.request.urlopen(html.unescape(each)) as answer:
                assert answer.headers["Content-Type"] == "image/gif"


def test_the_page_on_webhooks_tells_the_truth(daemon: Daemon) -> None:
    assert run("docs/webhooks.rst", daemon, {}) == 11


def test_the_page_on_single_sign_on_tells_the_truth(tmp_path: pathlib.Path) -> None:
    """With a provider that is built on authlib."""
    daemon = Daemon(tmp_path)
    daemon.environment["DIRECTUS_OUTGOING_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    daemon.start()
    port = str(free_port())
    assert (
        run("docs/single_sign_on.rst", daemon, {}, {"127.0.0.1:9400": f"127.0.0.1:{port}", "--port 9400": f"--port {port}"}) == 21
    )
    assert daemon.stop() == 0


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_the_page_on_webhooks_verifies_signatures(tmp_path: pathlib.Path, language: str) -> None:
    """The functions accept what the server signs, with one secret or two, and neither changed nor old requests."""
    if language == "javascript" and shutil.which("node") is None:
        pytest.skip("no node on this machine (Debian: apt-get install nodejs)")
    (program,) = blocks((ROOT / "docs/webhooks.rst").read_text(), language)
    secret, former, now = new_secret(), new_secret(), int(time.time())
    body = '{"name":"ünïcödé \\u0000"}'
    good = signed_headers([secret], "msg_1", now, body.encode())
    both = signed_headers([secret, former], "msg_1", now, body.encode())
    cases = [
        (secret, good, body, True),
        (secret, both, body, True),
        (former, both, body, True),
        (former, good, body, False),
        (secret, good, body + " ", False),
        (secret, {**good, "webhook-id": "msg_2"}, body, False),
        (secret, {**good, "webhook-timestamp": str(now - 1)}, body, False),
        (secret, {**good, "webhook-signature": "v1,"}, body, False),
        (secret, {**good, "webhook-signature": "v1"}, body, False),
        (secret, {**good, "webhook-signature": "v1,ü"}, body, False),
        (secret, signed_headers([secret], "msg_1", now - 1000, body.encode()), body, False),
    ]
    if language == "python":
        program += "\nimport json, sys\nprint(json.dumps([verify(s, h, b.encode()) for s, h, b, _ in json.load(sys.stdin)]))\n"
        command = [sys.executable]
    else:
        program += """
const cases = JSON.parse(require("node:fs").readFileSync(0));
console.log(JSON.stringify(cases.map(([s, h, b]) => verify(s, h, Buffer.from(b)))));
"""
        command = ["node"]
    path = tmp_path / ("verify.py" if language == "python" else "verify.cjs")
    path.write_text(program)
    done = subprocess.run([*command, str(path)], input=json.dumps(cases), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [expected for *_, expected in cases]
