"""The log tells of failures without telling what was in the statements that failed."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from directus_tx import logs
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from tests.conftest import Client, field
from tests.live.test_embedded import FAILING, SECRET

log = Logger()


class Written:
    """A log of which each reading returns what was written since the last."""

    def __init__(self, format: str, path: pathlib.Path) -> None:
        self.observer = logs.observer(format, str(path))
        self.file = path.open(encoding="utf-8")

    def read(self) -> str:
        assert self.observer.lines.flush(30)
        return self.file.read()


@pytest.fixture(params=["text", "json"])
def written(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Written]:
    """The log, in each of its formats."""
    found = Written(request.param, tmp_path / "log")
    globalLogPublisher.addObserver(found.observer)
    yield found
    globalLogPublisher.removeObserver(found.observer)
    found.file.close()


@pytest.fixture
def errors(postgres: dict[str, Any]) -> dict[str, psycopg2.Error]:
    """The errors of statements that hold a secret, by the name of the statement."""
    found: dict[str, psycopg2.Error] = {}
    connection = psycopg2.connect(**postgres)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TEMPORARY TABLE accounts"
        " (id serial, token text UNIQUE, short varchar(5), age int NOT NULL DEFAULT 0 CHECK (age >= 0));"
        f"CREATE TEMPORARY TABLE notes (account text REFERENCES accounts (token)); INSERT INTO accounts (token) VALUES ('{SECRET}')"
    )
    for name, statement in FAILING.items():
        try:
            cursor.execute(statement)
        except psycopg2.Error as error:
            found[name] = error
        cursor.execute("SET statement_timeout = 0")
    connection.close()
    return found


NAMES = {"an unknown column"}
"""Where the secret is the name of a column."""


def test_tracebacks_of_the_database_quote_no_values(errors: dict[str, psycopg2.Error], written: Written) -> None:
    assert sum(SECRET in str(error) for error in errors.values()) > 10
    for name, error in errors.items():
        if name in NAMES:
            continue
        for caught in (error, defer.FirstError(Failure(error), 0)):
            log.failure("it failed", Failure(caught))
            log.error("it failed: {error}", error=caught)
            text = written.read()
            assert SECRET not in text, name
            assert text.count(f"SQLSTATE {error.pgcode}") == 2, name
            assert "Traceback (most recent call last)" in text


def test_what_is_concerned_is_named(errors: dict[str, psycopg2.Error]) -> None:
    said = without_values(errors["a duplicate"])
    assert (said.split(", ")[0], "constraint_name accounts_token_key" in said) == ("SQLSTATE 23505", True)
    assert without_values(errors["an unknown function"]) == "SQLSTATE 42883, function nope(unknown) does not exist"
    assert without_values(errors["a time limit"]) == "SQLSTATE 57014, canceling statement due to statement timeout"
    assert without_values(psycopg2.OperationalError("server closed the connection")) == "server closed the connection"
    assert without_values(KeyError("a")) == "'a'"


@ensureDeferred
async def test_a_request_that_fails_in_the_database_leaves_no_values_in_the_log(client: Client, written: Written) -> None:
    await client.collection("things", field("name"))

    async def put(session: Session) -> None:
        await session.query(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN RAISE EXCEPTION 'no %%', NEW.name USING DETAIL = NEW.name, ERRCODE = '24000'; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

    await Session(client.backend.projects.get(client.project).database).transaction(put)
    answer = await client.post("~/items/things", {"name": SECRET})
    assert (answer.status, answer.code) == (500, 0)
    assert SECRET not in answer.body.decode()
    text = written.read()
    assert SECRET not in text
    assert "SQLSTATE 24000" in text
    assert answer.headers["x-request-id"] in text
    if text.startswith("{"):
        assert all(json.loads(line) for line in text.splitlines())


@ensureDeferred
async def test_the_line_of_a_request_has_the_code_of_the_error_that_is_answered(client: Client, written: Written) -> None:
    sign_in = {"email": "admin@example.com", "password": "password"}
    await client.patch("~/roles/1", {"enforce_2fa": True})
    answers = [
        await client.get("/server/ping"),
        await client.get("~/nothing"),
        await client.get("/unknown/items/things"),
        await client.get("~/users", token=None),
        await client.post("~/auth/authenticate", {**sign_in, "password": "wrong"}, token=None),
        await client.post("~/auth/authenticate", {"email": 5}, token=None),
        await client.call("POST", "~/auth/authenticate", b"x" * 8_000_000, token=None),
        await client.post("~/auth/refresh", {"token": "x.y.z"}, token=None),
        # It is answered together with a token.
        await client.post("~/auth/authenticate", sign_in, token=None),
    ]
    wanted = [answer.json["error"]["code"] if answer.json and "error" in answer.json else None for answer in answers]
    assert [wanted[0], wanted[-1]] == [None, 113]
    assert None not in wanted[1:]
    lines = written.read().splitlines()
    for answer, code in zip(answers, wanted, strict=True):
        (line,) = [line for line in lines if answer.headers["x-request-id"] in line]
        if line.startswith("{"):
            assert json.loads(line)["code"] == code
        else:
            assert line.partition(" statements")[2] == ("" if code is None else f" code {code}")


@pytest.mark.parametrize(
    "path",
    [
        "/p/users/invite/SECRET",
        "/p/users/%69nvite/SECRET",
        "/p/%75sers%2finvite%2FSECRET",
        "/p/users/invite/a%2FSECRET%0A.SECRET",
    ],
)
def test_no_spelling_of_a_path_shows_the_token_of_an_invitation(path: str) -> None:
    assert logs.without_tokens(path) == "/p/users/invite/(token)"
    assert logs.without_tokens("/p/items/a%2Fb") == "/p/items/a%2Fb"
