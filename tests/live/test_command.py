"""The `directus` command as a real process, beside a running daemon and without one."""

import contextlib
import io
import json
import os
import pathlib
import pty
import re
import socket
import subprocess
import sys
import tarfile
import tomllib
import urllib.error
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import psycopg2
import pytest

from directus_tx import tap
from directus_tx.cli import main
from directus_tx.sealing import Keys
from tests.conftest import KEY, field
from tests.daemon import BIN, SUPER_ADMIN_TOKEN, TOKEN, Daemon, free_port, wait_for


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running daemon on an embedded database, with a project `p`."""
    found = Daemon(tmp_path_factory.mktemp("server")).start()
    found.create_project("p")
    yield found
    found.stop()


def run(
    directory: pathlib.Path, *arguments: str, text: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command in a directory."""
    return subprocess.run(
        [str(BIN / "directus"), *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
        env=os.environ | (environment or {}),
    )


def run_here(
    directory: pathlib.Path, *arguments: str, text: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command in this process, which takes a tenth of the time: for what needs no projects, such as mistakes in the arguments.
    A command that uses projects fails, because it runs the reactor, which pytest does already."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(directory),
        mock.patch.dict(os.environ, environment or {}),
        mock.patch.object(sys, "stdin", io.StringIO(text)),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as end,
    ):
        main(arguments)
    return subprocess.CompletedProcess(arguments, int(end.value.code or 0), output.getvalue(), errors.getvalue())


@pytest.mark.slow
def test_it_manages_projects_beside_a_running_server(daemon: Daemon) -> None:
    def directus(*arguments: str, text: str = "") -> Any:
        done = run(daemon.directory, *arguments, "--json", "--data-dir", str(daemon.directory / "var"), text=text)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    assert directus("project", "list") == (0, [{"project": "p", "private": False}])
    status, made = directus("project", "create", "q", "--email", "q@example.com", "--generate")
    assert status == 0
    signed_in = {"email": "q@example.com", "password": made["password"]}
    assert daemon.call("POST", "/q/auth/authenticate", signed_in, token=None)["data"]["user"]["id"] == "1"
    assert directus("user", "create", "q", "second@example.com", text="second-password\n")[0] == 0
    assert directus("user", "password", "q", "second@example.com", text="changed-password\n")[0] == 0
    signed_in = {"email": "second@example.com", "password": "changed-password"}
    assert daemon.call("POST", "/q/auth/authenticate", signed_in, token=None)["data"]["user"]["id"] == "2"
    token = daemon.call("POST", "/q/auth/authenticate", signed_in, token=None)["data"]["token"]
    made = {"email": "third@example.com", "password": "third-password", "status": "suspended", "role": 1}
    daemon.call("POST", "/q/users", made, token=token)
    assert directus("user", "unlock", "q", "third@example.com") == (0, {"id": 3, "status": "active"})
    assert daemon.call("POST", "/q/auth/authenticate", made, token=None)["data"]["user"]["id"] == "3"
    assert directus("user", "unlock", "q", "nobody@example.com")[0] != 0
    assert directus("migrate") == (0, {"failed": []})
    daemon.call("POST", "/p/roles", {"name": "Writers"})
    status, document = directus("permissions", "export", "p")
    assert (status, [role["name"] for role in document["roles"]]) == (0, ["Public", "Writers"])
    file = daemon.directory / "roles.json"
    file.write_text(json.dumps(document))
    status, planned = directus("permissions", "import", "q", str(file), "--dry-run")
    assert (status, planned["dry_run"], planned["changes"][0]["action"]) == (0, True, "create")
    assert [role["name"] for role in directus("permissions", "export", "q")[1]["roles"]] == ["Public"]
    assert directus("permissions", "import", "q", str(file)) == (0, planned | {"dry_run": False})
    assert directus("permissions", "export", "q") == (0, document)
    assert directus("permissions", "import", "q", "-", text=json.dumps(document)) == (0, {"dry_run": False, "changes": []})
    file.write_text('{"roles": [{"colour": "red"}]}')
    status, message = directus("permissions", "import", "q", str(file))
    assert status == 1
    assert "name" in message
    assert directus("config", "show")[1]["database"]["url"] == ""
    for answer in ("", "p\n"):
        status, said = directus("project", "delete", "q", text=answer)
        assert (status, "not deleted" in said, "Traceback" in said) == (1, True, False), said
    assert directus("project", "delete", "q", "--yes")[0] == 0
    assert directus("project", "delete", "q", "--yes")[0] == 1
    assert daemon.call("GET", "/server/projects", token=None)["data"] == ["p"]


@pytest.mark.slow
def test_it_makes_and_revokes_tokens_and_sessions_beside_a_running_server(daemon: Daemon) -> None:
    def directus(*arguments: str) -> Any:
        done = run(daemon.directory, *arguments, "--json", "--data-dir", str(daemon.directory / "var"))
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    def status(path: str, token: str, method: str = "GET", body: Any = None) -> int:
        try:
            daemon.call(method, path, body, token=token)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    daemon.call("POST", "/p/collections", {"collection": "parts", "fields": [KEY, field("name")]})
    daemon.call("POST", "/p/collections", {"collection": "bolts", "fields": [KEY, field("name")]})
    email = daemon.call("GET", "/p/users/me?fields=email")["data"]["email"]
    code, whole = directus("token", "create", "p", email, "--name", "whole")
    assert code == 0, whole
    limits = ("--read-only", "--collection", "parts", "--collection", "directus_files", "--days", "7")
    code, limited = directus("token", "create", "p", email.upper(), "--name", "limited", *limits)
    assert (code, limited["read_only"], limited["collections"]) == (0, True, ["directus_files", "parts"])
    assert limited["expires_on"] > limited["created_on"]
    assert [status(f"/p/items/{name}", limited["token"]) for name in ("parts", "bolts")] == [200, 403]
    assert status("/p/items/parts", limited["token"], "POST", {"name": "x"}) == 403
    assert status("/p/items/parts", whole["token"], "POST", {"name": "x"}) == 200
    code, listed = directus("token", "list", "p", email)
    assert (code, [each["name"] for each in listed], "token" in listed[0]) == (0, ["whole", "limited"], False)
    assert listed[0]["last_used_on"] is not None
    assert directus("token", "list", "p") == (0, listed)
    shown = run(daemon.directory, "token", "list", "p").stdout.splitlines()
    assert [line.split("\t")[2:5] for line in shown] == [["whole", "no", ""], ["limited", "yes", "directus_files parts"]]
    for wrong, message in (
        (("--name", "WHOLE"), "has a token of this name"),
        (("--name", "x", "--collection", "nuts"), 'no collection "nuts"'),
        (("--name", " "), '"name" must be'),
    ):
        code, said = directus("token", "create", "p", email, *wrong)
        assert (code, message in said, "Traceback" in said) == (1, True, False), said
    assert directus("token", "create", "p", "nobody@example.com", "--name", "x")[0] == 1
    assert directus("token", "create", "p", email, "--name", "x", "--days", "0")[0] == 2
    assert directus("token", "revoke", "p", str(whole["id"]), "999") == (0, {"revoked": [whole["id"]]})
    assert [status("/p/items/parts", each["token"]) for each in (whole, limited)] == [401, 200]
    assert directus("token", "revoke", "p", "999")[0] == 1

    credentials = {"email": email, "password": "password"}
    jwts = [daemon.call("POST", "/p/auth/authenticate", credentials, token=None)["data"]["token"] for _ in range(3)]
    code, opened = directus("session", "list", "p")
    assert (code, len(opened), {each["user"] for each in opened}) == (0, 3, {1})
    assert directus("session", "list", "p", email) == (0, opened)
    assert directus("session", "revoke", "p", str(opened[0]["id"])) == (0, {"ended": [opened[0]["id"]]})

    def refreshed() -> list[int]:
        found = []
        for jwt in jwts:
            try:
                daemon.call("POST", "/p/auth/refresh", {"token": jwt}, token=None)
                found.append(200)
            except urllib.error.HTTPError as error:
                found.append(error.code)
        return found

    assert refreshed() == [401, 200, 200]
    assert directus("session", "revoke", "p", "--user", email)[1] == {"ended": [each["id"] for each in opened[1:]]}
    assert refreshed() == [401, 401, 401]
    assert directus("session", "list", "p") == (0, [])
    assert directus("session", "revoke", "p", "--user", email) == (0, {"ended": []})
    assert [directus("session", "revoke", "p")[0], directus("session", "revoke", "p", "7", "--user", email)[0]] == [2, 2]
    assert [directus("session", "revoke", "p", "999")[0], directus("session", "list", "p", "nobody@example.com")[0]] == [1, 1]


def test_it_sets_no_password_that_the_policy_refuses(daemon: Daemon) -> None:
    setting = f"/p/settings/{daemon.call('GET', '/p/settings?filter[key]=password_policy&single=1')['data']['id']}"
    daemon.call("PATCH", setting, {"value": "/^.{8,}$/"})
    try:
        for action, email in (("create", "policy@example.com"), ("password", "admin@example.com")):
            done = run(daemon.directory, "user", action, "p", email, text="short\n")
            assert done.returncode == 1
            assert "password_policy" in done.stderr
    finally:
        daemon.call("PATCH", setting, {"value": ""})
    signed_in = {"email": "admin@example.com", "password": "password"}
    assert daemon.call("POST", "/p/auth/authenticate", signed_in, token=None)["data"]["user"]["id"] == "1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("project", "list"),
        ("project", "create", "shop", "--email", "a@example.com", "--generate"),
        ("project", "delete", "shop", "--yes"),
        ("user", "list", "shop"),
        ("permissions", "export", "shop"),
        ("migrate",),
    ],
)
def test_it_makes_no_server_where_there_is_none(tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    done = run_here(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not the data directory of a server" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_its_failures_are_the_same_in_a_process_of_its_own(tmp_path: pathlib.Path) -> None:
    """One of each kind: a failure, a mistake in the arguments, and one in the configuration."""
    for arguments in (("user", "list", "shop"), ("outbox", "list", "p", "--limit", "0"), ("config", "check", "-c", "x.toml")):
        done, here = run(tmp_path, *arguments), run_here(tmp_path, *arguments)
        assert done.returncode in (1, 2)
        assert (done.returncode, done.stdout, done.stderr) == (here.returncode, here.stdout, here.stderr)
    assert list(tmp_path.iterdir()) == []


def test_init_makes_a_data_directory(tmp_path: pathlib.Path) -> None:
    made = run(tmp_path, "project", "create", "shop", "--email", "a@example.com", "--init", text="password\n")
    assert made.returncode == 0, made.stderr
    assert made.stdout == "project shop created, administrator a@example.com\n"
    assert run(tmp_path, "project", "list").stdout == "shop\tno\n"
    # The server makes the super admin token when it starts, unless it is configured, which the command cannot know.
    assert "token" not in made.stderr
    assert list(tmp_path.rglob("super_admin_token")) == []


def test_a_database_of_ones_own_is_used_and_stays(daemon: Daemon, postgres: dict[str, Any]) -> None:
    connection = psycopg2.connect(**postgres)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("CREATE DATABASE own_shop ENCODING 'UTF8' TEMPLATE template0")
    url = f"postgresql://{postgres['user']}:any@/own_shop?host={postgres['host']}&port={postgres.get('port', 5432)}"
    created = run(
        daemon.directory, "project", "create", "own", "--email", "a@example.com", "--generate", "--json", "--database-url", url
    )
    assert created.returncode == 0, created.stderr
    sign_in = {"email": "a@example.com", "password": json.loads(created.stdout)["password"]}
    assert daemon.call("POST", "/own/auth/authenticate", sign_in, token=None)["data"]["user"]["id"] == "1"
    assert run(daemon.directory, "project", "delete", "own", "--yes").returncode == 0
    cursor.execute("SELECT count(*) FROM pg_database WHERE datname = 'own_shop'")
    assert cursor.fetchone() == (1,)
    connection.close()


def test_deleting_asks_whether_it_may_drop_the_database_only_if_it_does(daemon: Daemon, postgres: dict[str, Any]) -> None:
    url = f"postgresql://{postgres['user']}:any@/kept_shop?host={postgres['host']}&port={postgres.get('port', 5432)}"
    with contextlib.closing(psycopg2.connect(**postgres)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE kept_shop ENCODING 'UTF8' TEMPLATE template0")
    made = run(daemon.directory, "project", "create", "kept", "--email", "a@example.com", "--generate", "--database-url", url)
    assert made.returncode == 0, made.stderr
    for key, asked in (
        ("kept", "Delete project kept but not its database kept_shop?"),
        ("p", "Delete project p and its database and files?"),
    ):
        done = run(daemon.directory, "project", "delete", key, text="no\n")
        assert (done.returncode, done.stdout, asked in done.stderr) == (1, "", True), done.stderr
    done = run(daemon.directory, "project", "delete", "kept", text="kept\n")
    assert (done.returncode, done.stdout) == (0, "project kept deleted\n"), done.stderr


def test_the_reason_why_a_database_cannot_be_reached_is_shown(daemon: Daemon, postgres: dict[str, Any]) -> None:
    host = f"host={postgres['host']}&port={postgres.get('port', 5432)}"
    for url, reason in (
        (f"postgresql://{postgres['user']}@/missing_shop?{host}", 'database "missing_shop" does not exist'),
        (f"postgresql://missing_role@/postgres?{host}", 'role "missing_role" does not exist'),
        ("postgresql://a:secret@127.0.0.1:1/shop", "Connection refused"),
        ("postgresql://a:secret@nowhere.invalid/shop", "nowhere.invalid"),
    ):
        done = run(daemon.directory, "project", "create", "x", "--email", "a@example.com", "--generate", "--database-url", url)
        *_, said = done.stderr.splitlines()
        assert (done.returncode, done.stdout, done.stderr.count("cannot be reached")) == (1, "", 1), done.stderr
        assert said.startswith("directus: The database cannot be reached: "), done.stderr
        assert reason in said
        assert "secret" not in said


def test_every_command_suggests_the_project_that_was_meant(daemon: Daemon) -> None:
    daemon.create_project("library")
    for command in ("schema show", "user list", "permissions export", "schema refresh", "schema adopt", "project delete --yes"):
        done = run(daemon.directory, *command.split(), "libary")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == 'directus: there is no project libary; did you mean "library"?', command


def test_a_mistake_in_the_configuration_is_one_line(tmp_path: pathlib.Path) -> None:
    done = run(tmp_path, "serve", "--config", "nothing.toml")
    said = "directus: the configuration is invalid:\n  nothing.toml: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    done = run(tmp_path, "permissions", "import", "p", "nothing.json", "--data-dir", str(tmp_path))
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["mysql://a@b/c", "postgresql://h/d?colour=red", "postgresql://h/d?port=high", "postgresql://h/d?port=0", "shop"]
)
def test_a_url_that_is_none_is_refused(tmp_path: pathlib.Path, url: str) -> None:
    arguments = ("project", "create", "x", "--email", "a@example.com", "--generate", "--database-url", url, "--init")
    done = run_here(tmp_path, *arguments)
    assert (done.returncode, "--database-url" in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "options", "text", "said"),
    [
        ("x", ("--email", "ada"), "secret", "--email is not a valid e-mail address."),
        ("x", ("--email", ""), "secret", "--email is required and must be a text."),
        ("x", ("--email", "a@example.com"), "s" * 5000, "the password must have at most 4096 characters."),
        ("a b", ("--email", "a@example.com"), "secret", "the key of the project must consist of "),
    ],
)
def test_mistakes_in_a_new_project_are_told_in_words_of_the_command(
    daemon: Daemon, key: str, options: Sequence[str], text: str, said: str
) -> None:
    done = run(daemon.directory, "project", "create", key, *options, text=text)
    assert (done.returncode, done.stdout, done.stderr.startswith(f"directus: {said}")) == (1, "", True), done.stderr
    assert key not in {each["project"] for each in json.loads(run(daemon.directory, "project", "list", "--json").stdout)}


def test_an_empty_password_is_refused(daemon: Daemon) -> None:
    for action, email in (("create", "empty@example.com"), ("password", "admin@example.com")):
        for text in ("", "\n"):
            done = run(daemon.directory, "user", action, "p", email, text=text)
            assert (done.returncode, "the password is empty" in done.stderr) == (1, True), done.stderr
    assert "empty@example.com" not in run(daemon.directory, "user", "list", "p").stdout
    signed_in = {"email": "admin@example.com", "password": "password"}
    assert daemon.call("POST", "/p/auth/authenticate", signed_in, token=None)["data"]["user"]["id"] == "1"


def test_roles_are_found_by_name_or_id(daemon: Daemon) -> None:
    daemon.call("POST", "/p/roles", {"name": "Editors"})

    def create(email: str, role: str) -> subprocess.CompletedProcess[str]:
        return run(daemon.directory, "user", "create", "p", email, "--role", role, "--generate")

    assert create("one@example.com", "editors").returncode == 0
    assert create("two@example.com", "1").returncode == 0
    listed = run(daemon.directory, "user", "list", "p", "--json")
    roles = {user["email"]: user["role"] for user in json.loads(listed.stdout)}
    assert (roles["one@example.com"], roles["two@example.com"]) == ("Editors", "Administrator")
    for role, said in (
        ("Editor", 'there is no role Editor; did you mean "Editors"?'),
        ("99", "there is no role 99"),
    ):
        done = create("three@example.com", role)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_mistyped_commands_are_told_the_one_that_was_meant(tmp_path: pathlib.Path) -> None:
    for arguments, meant in ((("projct",), "project"), (("user", "creat"), "create"), (("config", "show", "--jsn"), "--json")):
        done = run(tmp_path, *arguments)
        assert (done.returncode, meant in done.stderr) == (2, True), done.stderr


def test_help_and_version_need_no_configuration(tmp_path: pathlib.Path) -> None:
    wrong = {"DIRECTUS_SERVER_COLOUR": "red"}
    assert re.search(r"\d+\.\d+", run(tmp_path, "--version", environment=wrong).stdout)
    assert "Examples:" in run_here(tmp_path, "user", "create", "--help", environment=wrong).stdout
    done = run_here(tmp_path, "config", "check", environment=wrong)
    assert (done.returncode, "DIRECTUS_SERVER_COLOUR" in done.stderr) == (2, True)


def test_the_shell_completes_its_words(tmp_path: pathlib.Path) -> None:
    words = {"_DIRECTUS_COMPLETE": "bash_complete", "COMP_WORDS": "directus project cr", "COMP_CWORD": "2"}
    assert run(tmp_path, environment=words).stdout == "plain,create\n"


@pytest.mark.parametrize("command", ["--help", "config show", "project list", "graphql schema p"])
def test_a_reader_that_ends_is_no_failure_to_tell(daemon: Daemon, command: str) -> None:
    """As with "| head": the short output is written at the end, the schema while the command works."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(BIN / "directus"), *command.split()], cwd=daemon.directory, stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_terminal_is_shown_a_table(daemon: Daemon) -> None:
    primary, secondary = pty.openpty()
    try:
        process = subprocess.Popen(
            [str(BIN / "directus"), "project", "list"],
            cwd=daemon.directory,
            stdin=subprocess.DEVNULL,
            stdout=secondary,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
        )
        assert process.wait(60) == 0
        shown = os.read(primary, 65536).decode()
    finally:
        os.close(primary)
        os.close(secondary)
    assert "private" in shown
    assert "│ p " in shown


WRONG = {
    "server.listen: names no address": "listen = []",
    "there is no kind of endpoint 'tpc'; did you mean \"tcp\"?": 'listen = ["tpc:80"]',
    'server.listen: "tcp:high" is not a Twisted endpoint': 'listen = ["tcp:high"]',
    'server.listen: "tcp:8080" is there twice': 'listen = ["tcp:8080", "tcp:8080"]',
    'server.trusted_proxies: "10.0.0.0/99" is not an IP address or network': 'trusted_proxies = ["10.0.0.0/99"]',
    "server.log_file: /dev/null/log": 'log_file = "/dev/null/log"',
    "server.data_dir: /dev/null is not a directory": 'data_dir = "/dev/null"',
    "database.url: ": '[database]\nurl = "postgresql://nobody:wrong@127.0.0.1:1/nothing"',
}


@pytest.mark.parametrize("said", WRONG)
def test_config_check_finds_what_keeps_the_server_from_starting(tmp_path: pathlib.Path, said: str) -> None:
    file = tmp_path / "directus.toml"
    file.write_text(f"[server]\n{WRONG[said]}\n")
    done = run_here(tmp_path, "config", "check", "-c", str(file))
    assert (done.returncode, said.split(" is not a dir")[0].removesuffix("/log") in done.stdout) == (2, True), (
        done.stdout + done.stderr
    )
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directus.toml"]
    if not said.startswith("database"):
        # The server says the same, and ends.
        options = tap.Options()
        options.parseOptions(["--config", str(file)])
        with contextlib.chdir(tmp_path), pytest.raises(SystemExit, match=re.escape(done.stdout.strip())):
            tap.makeService(options)


def test_a_server_that_cannot_start_says_why_and_ends(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "directus.toml"
    file.write_text('[server]\nlisten = ["tcp:high", "tpc:80"]\n')
    found = run(tmp_path, "config", "check", "-c", str(file))
    assert (found.returncode, len(found.stdout.splitlines())) == (2, 2)
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--config", str(file)]
    started = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    said = ["directus_tx: the server cannot start:", *(f"  {line}" for line in found.stdout.splitlines())]
    assert (started.returncode, started.stderr.splitlines()) == (1, said)


def test_config_check_finds_every_problem(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "directus.toml"
    file.write_text('[server]\nlisten = ["tpc:80"]\ntrusted_proxies = ["x"]\n')
    (tmp_path / "var" / "projects").mkdir(parents=True)
    (tmp_path / "var" / "projects" / "shop.toml").write_text("no TOML")
    done = run_here(tmp_path, "config", "check", "-c", str(file), "--json")
    document = json.loads(done.stdout)
    assert document["ok"] is False
    assert [
        part in line for part, line in zip(("listen", "trusted_proxies", "shop.toml"), document["problems"], strict=True)
    ] == [True] * 3


def test_config_check_accepts_a_database_that_can_be_reached(tmp_path: pathlib.Path, postgres: dict[str, Any]) -> None:
    url = f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"
    done = run_here(tmp_path, "config", "check", environment={"DIRECTUS_DATABASE_URL": url})
    assert (done.returncode, done.stdout) == (0, "the configuration is valid\n")
    done = run_here(tmp_path, "config", "check", environment={"DIRECTUS_DATABASE_URL": url.replace("/postgres?", "/nothing?")})
    assert (done.returncode, "nothing" in done.stdout) == (2, True)


def test_a_project_is_exported_and_imported(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_project("moved")
    key = {"field": "id", "type": "integer", "datatype": "INT", "length": 10, "primary_key": True, "auto_increment": True}
    title = {"field": "title", "type": "string", "datatype": "VARCHAR", "length": 100, "index": True}
    indexes = [{"name": "some", "fields": ["-title"], "where": {"id": {"lt": 5}}}]
    daemon.call("POST", "/moved/collections", {"collection": "books", "fields": [key, title], "indexes": indexes})
    daemon.call("POST", "/moved/items/books", [{"title": "Äpfel"}, {"title": None}])
    paths = (
        "items/books",
        "items/books/1/revisions",
        "permissions",
        "users?fields=*",
        "fields/books",
        "collections/books",
        "activity?fields=id,action,item",
    )
    before = [daemon.call("GET", f"/moved/{path}")["data"] for path in paths]
    signed_in = daemon.call(
        "POST", "/moved/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None
    )
    before[paths.index("users?fields=*")] = daemon.call("GET", "/moved/users?fields=*")["data"]
    before[-1] = daemon.call("GET", "/moved/activity?fields=id,action,item")["data"]
    archive = tmp_path / "moved.tar"
    exported = run(daemon.directory, "project", "export", "moved", str(archive))
    assert exported.returncode == 0, exported.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["moved.tar"]
    again = run(daemon.directory, "project", "export", "moved", str(archive))
    assert (again.returncode, "exists" in again.stderr) == (1, True), again.stderr
    taken = run(daemon.directory, "project", "import", str(archive))
    assert (taken.returncode, "Traceback" in taken.stderr) == (1, False), taken.stderr
    assert run(daemon.directory, "project", "delete", "moved", "--yes").returncode == 0
    imported = run(daemon.directory, "project", "import", str(archive))
    assert imported.returncode == 0, imported.stderr
    # The static token and the token of the sign-in are still valid.
    token = signed_in["data"]["token"]
    assert [daemon.call("GET", f"/moved/{path}", token=token)["data"] for path in paths] == before
    assert daemon.call("POST", "/moved/items/books", {"title": "new"})["data"]["id"] == 3
    copy = run(daemon.directory, "project", "import", str(archive), "--key", "copy")
    assert copy.returncode == 0, copy.stderr
    assert daemon.call("GET", "/copy/items/books")["data"] == before[0]


def test_a_copy_of_a_project_delivers_nothing_that_the_original_may_deliver(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_project("original")
    file = daemon.directory / "var" / "projects" / "original.toml"
    with socket.socket() as unreachable:
        # Bound, but not listening: connections are refused, and the mails are tried again later.
        unreachable.bind(("127.0.0.1", 0))
        port = unreachable.getsockname()[1]
        file.write_text(
            f'mail_from = "a@example.com"\n{file.read_text()}\n[mail]\nhost = "127.0.0.1"\nport = {port}\nencryption = "none"\n'
        )
        for name in ("ada", "grace"):
            daemon.call("POST", "/original/mail", {"to": [f"{name}@example.com"], "subject": "s", "body": "b"})

        def messages(project: str) -> list[dict[str, Any]]:
            listed = run(daemon.directory, "outbox", "list", project, "--json")
            assert listed.returncode == 0, listed.stderr
            return sorted(json.loads(listed.stdout), key=lambda each: each["id"])

        wait_for(lambda: [bool(each["error"]) for each in messages("original")] == [True, True])
        before = messages("original")
        archive = tmp_path / "original.tar"
        assert run(daemon.directory, "project", "export", "original", str(archive)).returncode == 0
        imported = run(daemon.directory, "project", "import", str(archive), "--key", "staging")
        assert imported.returncode == 0, imported.stderr
        assert "held: 2." in imported.stderr
        assert "directus outbox retry staging --state held" in imported.stderr.replace("\n", " ")
        assert daemon.call("GET", "/staging/users/me")["data"]["id"] == 1
        copies = messages("staging")
        assert [each["message_id"] for each in copies] == [each["message_id"] for each in before]
        assert [(each["state"], "imported" in each["error"]) for each in copies] == [("held", True)] * 2
        assert [each["state"] for each in messages("original")] == ["pending"] * 2
        retried = run(daemon.directory, "outbox", "retry", "staging", "--state", "held")
        assert (retried.returncode, retried.stdout.strip()[-1:]) == (0, "2"), retried.stderr
        wait_for(lambda: [each["state"] for each in messages("staging")] == ["pending"] * 2)
    for project in ("original", "staging"):
        assert run(daemon.directory, "project", "delete", project, "--yes").returncode == 0


def test_projects_with_one_database_get_the_same_new_key(daemon: Daemon) -> None:
    daemon.create_project("first")
    files = daemon.directory / "var" / "projects"

    def keys(project: str) -> Any:
        found = tomllib.loads((files / f"{project}.toml").read_text())
        return found["secret_key"], found.get("former_secret_keys", [])

    name = tomllib.loads((files / "first.toml").read_text())["database"]["name"]
    arguments = ("--email", "x@example.com", "--generate", "--db-name", name, "--existing")
    created = run(daemon.directory, "project", "create", "second", *arguments)
    assert created.returncode == 0, created.stderr
    assert "anew" not in created.stderr
    before = keys("first")
    assert keys("second") == before
    assert run(daemon.directory, "project", "rotate-key", "second").returncode == 0
    assert keys("first") == keys("second") == (keys("second")[0], [before[0]])
    assert keys("first")[0] != before[0]
    for project, other in (("first", "second"), ("second", "first")):
        daemon.call("PATCH", f"/{project}/users/1", {"token": TOKEN})
        assert daemon.call("GET", f"/{other}/users/me?fields=token")["data"] == {"token": TOKEN}
    for project in ("second", "first"):
        assert run(daemon.directory, "project", "delete", project, "--yes").returncode == 0


def test_what_is_no_archive_of_a_project_is_not_imported(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    projects = daemon.directory / "var" / "projects"
    before = sorted(path.name for path in projects.iterdir())
    archive = tmp_path / "broken.tar"
    text = (projects / "p.toml").read_text()
    for members in ({}, {"p.toml": text}, {"q.toml": text, "database.dump": "no dump"}, {"../q.toml": text, "database.dump": ""}):
        with tarfile.open(archive, "w") as tar:
            for name, content in members.items():
                data = content.encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        done = run(daemon.directory, "project", "import", str(archive))
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    archive.write_text("text")
    assert run(daemon.directory, "project", "import", str(archive)).returncode == 1
    assert run(daemon.directory, "project", "import", str(archive), "--key", "server").returncode == 1
    assert sorted(path.name for path in projects.iterdir()) == before
    with daemon.connect("p") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'directus\\_q\\_%'")
        assert cursor.fetchone() == (0,)


def test_the_schema_is_shown_adopted_and_read_again(daemon: Daemon) -> None:
    daemon.create_project("adopting")
    with daemon.connect("adopting") as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE authors (id serial PRIMARY KEY, name text);"
            "CREATE TABLE books (id serial PRIMARY KEY, author integer REFERENCES authors, a integer, b integer);"
            "CREATE TABLE shelves (a integer, b integer, PRIMARY KEY (a, b));"
            "ALTER TABLE books ADD CONSTRAINT shelf FOREIGN KEY (a, b) REFERENCES shelves;"
            "CREATE TABLE empty ()"
        )
    connection.close()
    shown = run(daemon.directory, "schema", "show", "adopting", "--json")
    found = json.loads(shown.stdout)
    assert {each["collection"]: each["key"] for each in found["collections"]} == {
        "authors": "id",
        "books": "id",
        "shelves": "a, b",
    }
    assert {each["name"] for each in found["left_out"]} == {"empty", "books.shelf"}
    lines = run(daemon.directory, "schema", "show", "adopting", "books").stdout.splitlines()
    assert lines[1].split("\t") == ["author", "m2o", "many-to-one", "INT", "integer", "authors (not in directus_relations)"]
    planned = run(daemon.directory, "schema", "adopt", "adopting", "--dry-run")
    assert "relation books.author to authors.books: would be created" in planned.stdout
    assert "left out: foreign key books.shelf: It has several columns." in planned.stderr
    assert daemon.call("GET", "/adopting/items/authors?fields=*.*")["data"] == []
    done = run(daemon.directory, "schema", "adopt", "adopting", "--tables", "authors, books", "--json")
    assert json.loads(done.stdout)["collections"] == ["authors", "books"]
    made = daemon.call("POST", "/adopting/items/authors?fields=books.id", {"name": "Ada", "books": [{"a": None}]})
    assert made["data"] == {"books": [{"id": 1}]}
    assert run(daemon.directory, "schema", "adopt", "adopting", "--tables", "authors").stdout == "there is nothing to write\n"
    wrong = run(daemon.directory, "schema", "adopt", "adopting", "--tables", "author")
    assert wrong.returncode == 1
    assert 'did you mean "authors"' in wrong.stderr
    with daemon.connect("adopting") as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE authors ADD COLUMN born date")
    connection.close()
    assert "3 collections" in run(daemon.directory, "schema", "refresh", "adopting").stdout
    assert daemon.call("GET", "/adopting/items/authors")["data"][0]["born"] is None


def test_it_asks_the_running_server_for_advice(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_project("advised")
    daemon.call("POST", "/advised/collections", {"collection": "things", "fields": [KEY, field("name"), field("size")]})
    for number in range(3):
        daemon.call("GET", f"/advised/items/things?filter[name][in]=secret,{number}&sort=-size")
    asking = ("advise", "advised", "--url", daemon.base)
    small = run(daemon.directory, *asking)
    assert (small.returncode, small.stdout) == (0, ""), small.stderr
    assert "--all" in small.stderr
    done = run(daemon.directory, *asking, "--all")
    (line,) = done.stdout.splitlines()
    declared = {"collection": "things", "indexes": [{"fields": ["name", "-size"]}]}
    columns = line.split("\t")
    assert columns[:4] == ["things", "name in", "-size", "3"], done.stderr
    assert columns[7] == f"declare {json.dumps(declared)}"
    assert "secret" not in done.stdout
    found = json.loads(run(daemon.directory, *asking, "--all", "--json").stdout)
    assert (found["process"], found["processes"]) == (daemon.pid, 1)
    assert [each["declare"] for each in found["queries"]] == [[declared]]
    # The server is asked at the address that it listens on by its settings.
    listen = daemon.base.removeprefix("http://").rpartition(":")
    environment = {"DIRECTUS_SERVER_LISTEN": f"tcp:{listen[2]}:interface={listen[0]}"}
    assert run(daemon.directory, "advise", "advised", "--all", environment=environment).stdout == done.stdout
    for url, said in (
        (f"http://127.0.0.1:{free_port()}", "no server answers at"),
        ("ftp://127.0.0.1", "is not a URL of a server"),
        (f"{daemon.base}/nothing", "has answered with 4"),
    ):
        refused = run(daemon.directory, "advise", "advised", "--url", url)
        assert (refused.returncode, refused.stdout) == (1, ""), refused.stdout
        assert said in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr
    missing = run(daemon.directory, "advise", "no-such-project")
    assert missing.returncode == 1, missing.stderr


def test_it_replaces_the_secret_key_beside_a_running_server(daemon: Daemon) -> None:
    def directus(*arguments: str) -> Any:
        done = run(daemon.directory, "project", *arguments, "--json")
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    assert directus("forget-keys", "p") == (0, {"project": "p", "forgotten": 0})
    credentials = {"email": "admin@example.com", "password": "password"}
    token = daemon.call("POST", "/p/auth/authenticate", credentials, token=None)["data"]["token"]
    secret = daemon.call("POST", "/p/webhooks", {})["data"]["secret"]
    assert directus("rotate-key", "p") == (0, {"project": "p", "former_keys": 1})
    assert directus("rotate-key", "p") == (0, {"project": "p", "former_keys": 2})
    assert daemon.call("GET", "/p/users/me?fields=id", token=token) == {"data": {"id": 1}}
    # The command waits until servers that run know the new key, unless the file is older.
    file = daemon.directory / "var" / "projects" / "p.toml"
    os.utime(file, (1, 1))
    assert directus("forget-keys", "p") == (0, {"project": "p", "forgotten": 2})
    assert "former" not in file.read_text()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        daemon.call("GET", "/p/users/me?fields=id", token=token)
    assert daemon.call("POST", "/p/webhooks", {})["data"]["secret"] != secret
    # What is sealed with another key is not lost with the keys.
    assert directus("rotate-key", "p")[0] == 0
    with contextlib.closing(daemon.connect("p")) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE directus_webhook_keys SET secret = %s WHERE webhook = 1", (Keys("another").seal("webhook", "x"),))
    os.utime(file, (1, 1))
    status, said = directus("forget-keys", "p")
    assert (status, said) == (1, said)
    assert "sealed with none of the keys: 1." in said
    assert "former_secret_keys" in file.read_text()
    for command in ("rotate-key", "forget-keys"):
        assert directus(command, "nope")[0] == 1


def test_it_lists_retries_and_drops_messages_of_the_outbox(daemon: Daemon) -> None:
    daemon.create_project("post")
    insert = (
        "INSERT INTO directus_outbox (message_id, kind, destination, subject, sequence, payload, erased, created_on, next_attempt)"
        " SELECT gen_random_uuid(), CASE WHEN n < 4 THEN 'pigeon' ELSE 'owl' END, 'roof', '', '', %s, FALSE, now(), now()"
        " FROM generate_series(1, 6) AS n"
    )

    def directus(*arguments: str) -> Any:
        done = run(daemon.directory, "outbox", *arguments, "--json", "--data-dir", str(daemon.directory / "var"))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ended() -> Any:
        """The messages when the server has tried all of them. It knows no such kinds, so it holds them."""
        wait_for(lambda: not query("SELECT 1 FROM directus_outbox WHERE state = 'pending'"))
        return directus("list", "post")

    with contextlib.closing(daemon.connect("post")) as connection:
        connection.autocommit = True

        def query(statement: str, *values: Any) -> Any:
            cursor = connection.cursor()
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

        query(insert, '{"token": "a-secret-token", "item": "17"}')
        found = ended()
        assert [each["id"] for each in found] == [6, 5, 4, 3, 2, 1]
        assert {each["state"] for each in found} == {"held"}
        assert {len(each["attempts"]) for each in found} == {1}
        assert found[0]["item"] == "17"
        assert "secret-token" not in json.dumps(found)
        info = daemon.call("GET", f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)["data"]["outboxes"]["post"]
        assert info == {"pending": 0, "held": 6, "dead": 0, "held_because": found[0]["error"]}
        assert [each["id"] for each in directus("list", "post", "--kind", "owl", "--state", "held", "--limit", "2")] == [6, 5]
        assert [each["id"] for each in directus("list", "post", "2", "3", "9")] == [3, 2]
        assert directus("list", "post", "--state", "dead") == ([])
        # The running server delivers at once what the command makes due.
        assert directus("retry", "post", "1", "2") == ({"project": "post", "retried": 2})
        assert {each["id"]: len(each["attempts"]) for each in ended()} == {1: 2, 2: 2, 3: 1, 4: 1, 5: 1, 6: 1}
        assert directus("retry", "post", "--all") == ({"project": "post", "retried": 6})
        assert {each["id"]: len(each["attempts"]) for each in ended()} == {1: 3, 2: 3, 3: 2, 4: 2, 5: 2, 6: 2}
        query("UPDATE directus_outbox SET state = 'delivered' WHERE id = 6")
        assert directus("drop", "post", "--kind", "owl") == ({"project": "post", "dropped": 2})
        assert directus("drop", "post", "--state", "dead") == ({"project": "post", "dropped": 0})
        assert directus("drop", "post", "2") == ({"project": "post", "dropped": 1})
        assert directus("drop", "post", "--all") == ({"project": "post", "dropped": 2})
        assert [each["id"] for each in ended()] == [6]
        assert directus("drop", "post", "--state", "delivered") == ({"project": "post", "dropped": 1})
        assert query("SELECT count(*) FROM directus_outbox_attempts") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("retry", "p"), 2, "Name the messages"),
        (("drop", "p"), 2, "Name the messages"),
        (("drop", "p", "--all", "--state", "dead"), 2, "--all excludes"),
        (("retry", "p", "1", "--all"), 2, "--all excludes"),
        (("retry", "p", "x"), 2, "not a valid integer"),
        (("retry", "p", "0"), 2, "range"),
        (("list", "p", "9223372036854775808"), 2, "range"),
        (("list", "p", "--state", "lost"), 2, "lost"),
        (("list", "p", "--limit", "0"), 2, "range"),
        (("retry", "p", "12345"), 1, "no message was changed"),
        (("list", "q"), 1, "there is no project q"),
    ],
)
def test_mistakes_in_the_outbox_commands_are_told(daemon: Daemon, arguments: tuple[str, ...], status: int, said: str) -> None:
    # Those that click finds need no projects.
    found_by_click = any(each in said for each in ("integer", "range", "lost"))
    done = (run_here if found_by_click else run)(daemon.directory, "outbox", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
