"""What the database refuses, as clients are told: the code, the status, the fields that it is about."""

from typing import Any

from psycopg2 import errorcodes
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from directus_tx.db.sqlstate import MEANINGS, meaning_of
from directus_tx.errors import InternalError
from tests.conftest import KEY, Client, Reply, field, limited_role

NAME = field("name")
SQLSTATES = sorted(
    {code for name, code in vars(errorcodes).items() if name.isupper() and isinstance(code, str) and len(code) == 5}
)
RAISE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the trigger says %%', NEW.note USING ERRCODE = NEW.name, DETAIL = 'secret', HINT = 'secret';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.name IS NOT NULL) EXECUTE FUNCTION refuse();
"""


async def execute(client: Client, *statements: str) -> None:
    """Runs statements as somebody else than the server."""

    async def work(session: Session) -> None:
        for statement in statements:
            await session.query(statement)

    await Session(client.backend.projects.get(client.project).database).transaction(work)


def said(answer: Reply) -> tuple[int, int, str]:
    error = answer.json["error"]
    return answer.status, error["code"], error["message"]


def test_every_class_of_sqlstates_has_a_meaning() -> None:
    classes = {code for name, code in vars(errorcodes).items() if name.startswith("CLASS_")}
    assert classes - MEANINGS.keys() == set()
    assert all(state[:2] in MEANINGS for state in MEANINGS)


@ensureDeferred
async def test_every_sqlstate_is_answered_as_the_table_says(client: Client) -> None:
    await client.collection("t", NAME, field("note"))
    await execute(client, RAISE)
    assert len(SQLSTATES) > 200
    for state in SQLSTATES:
        if state.startswith(("00", "01")):
            # RAISE does not raise these as errors.
            continue
        answer = await client.post("~/items/t", {"name": state, "note": "42%s"})
        error = meaning_of(state).error
        status, code, message = said(answer)
        assert (status, code) == (error.status, error.code), state
        assert "secret" not in message, state
        if issubclass(error, InternalError):
            assert answer.headers["x-request-id"] in message, state
            assert "trigger" not in message
        elif status < 500 and not state.startswith("57P"):
            assert message == "the trigger says 42%s", state
        assert ("retry-after" in answer.headers) == (status in (409, 503) and code != 204), state
    assert (await client.get("~/items/t")).data == []
    assert (await client.post("~/items/t", {"note": "fine"})).status == 200


@ensureDeferred
async def test_a_violated_foreign_key_says_on_which_side_the_fault_is(client: Client) -> None:
    await execute(
        client,
        "CREATE TABLE makers (id serial PRIMARY KEY, code int UNIQUE, boss int REFERENCES makers)",
        "CREATE TABLE works (id serial PRIMARY KEY, maker int REFERENCES makers, code int REFERENCES makers (code))",
        "INSERT INTO makers VALUES (1, 10, NULL), (2, 20, 1)",
        "INSERT INTO works VALUES (1, 2, 20)",
    )
    missing, used = "A related item does not exist", "Other items refer to this item"
    for answer, message in (
        (await client.post("~/items/works", {"maker": 9}), f'{missing}: "maker" of "works".'),
        (await client.patch("~/items/works/1", {"code": 11}), f'{missing}: "code" of "works".'),
        (await client.post("~/items/makers", {"boss": 9}), f'{missing}: "boss" of "makers".'),
        (await client.patch("~/items/makers/2", {"code": 21}), f'{used}: "code" of "works".'),
        (await client.delete("~/items/makers/2"), f'{used}: "maker" of "works".'),
        (await client.delete("~/items/makers/1"), f'{used}: "boss" of "makers".'),
    ):
        assert said(answer) == (422, 4, message)


@ensureDeferred
async def test_what_a_trigger_raises_is_told_to_clients(client: Client) -> None:
    await client.collection("t", NAME, field("note"))
    await execute(
        client,
        RAISE,
        "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no deletion of %%', OLD.id; END $$",
        "CREATE TRIGGER forbid BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION forbid()",
    )
    # Codes of the trigger's own.
    for state in ("CU001", "ZZZZZ", "PT404", "99999"):
        assert said(await client.post("~/items/t", {"name": state})) == (422, 4, "the trigger says <NULL>")
    key = (await client.post("~/items/t", {"note": "kept"})).data["id"]
    assert said(await client.delete(f"~/items/t/{key}")) == (422, 4, f"no deletion of {key}")
    assert (await client.get(f"~/items/t/{key}")).status == 200


CONSTRAINTS = (
    """
CREATE TABLE one (id serial PRIMARY KEY, name text);
CREATE TABLE t (
    id serial PRIMARY KEY, name text CHECK (name <> 'bad'), "E Mail" varchar(60), a int, b int, low int, high int, period int4range,
    part int NOT NULL DEFAULT 1, shown text UNIQUE, hidden text UNIQUE, one int CONSTRAINT parent REFERENCES one,
    CHECK (low < high), EXCLUDE USING gist (period WITH &&)
);
CREATE UNIQUE INDEX "email%%s" ON t (lower("E Mail")) INCLUDE (low) WHERE high IS NULL OR high > 0;
CREATE UNIQUE INDEX ON t (a, (b + 1));
CREATE INDEX by_hidden_name ON t (hidden, name);
INSERT INTO one (name) VALUES ('one');
INSERT INTO t (name, "E Mail", a, b, period, shown, hidden, one) VALUES ('x', 'Jo@Example.com', 1, 2, '[1,5)', 's', 'h', 1);
""",
    "SELECT directus_touch('schema')",
)

REFUSED: list[tuple[dict[str, Any], int, int, list[str]]] = [
    ({"E Mail": "JO@example.COM"}, 409, 204, ["E Mail"]),
    ({"a": 1, "b": 2}, 409, 204, ["a", "b"]),
    ({"period": "[4,9)"}, 409, 204, ["period"]),
    ({"name": "bad"}, 422, 4, ["name"]),
    ({"low": 2, "high": 1}, 422, 4, ["low", "high"]),
    ({"one": 7}, 422, 4, ["one"]),
    ({"shown": "s"}, 409, 204, ["shown"]),
    ({"id": 1}, 409, 204, ["id"]),
]


@ensureDeferred
async def test_violated_constraints_name_their_fields(client: Client) -> None:
    await execute(client, *CONSTRAINTS)
    for payload, status, code, names in REFUSED:
        listed = ", ".join(f'"{name}"' for name in names)
        answer = await client.post("~/items/t", payload)
        assert said(answer)[:2] == (status, code), answer.body
        assert said(answer)[2].endswith(f': {listed} of "t".'), answer.body
        if "id" not in payload:
            other = (await client.post("~/items/t", {"part": 3})).data["id"]
            assert said(await client.patch(f"~/items/t/{other}", payload)) == said(answer)
    referenced = said(await client.delete("~/items/one/1"))
    assert referenced[:2] == (422, 4)
    assert referenced[2].endswith(': "one" of "t".')
    assert (await client.get("~/items/t?filter[part][eq]=1&fields=id")).data == [{"id": 1}]


@ensureDeferred
async def test_a_violated_constraint_names_no_field_that_the_caller_may_not_know_of(client: Client) -> None:
    await execute(client, *CONSTRAINTS)
    role = (await client.post("~/roles", {"name": "limited"})).data["id"]
    rights = {"role": role, "collection": "t", "create": "full", "read": "full", "update": "full", "delete": "full"}
    granted = await client.post("~/permissions", {**rights, "read_field_blacklist": ["hidden", "b", "high", "period"]})
    assert granted.status == 200, granted.body
    await client.post("~/permissions", {**rights, "collection": "one", "read": "none"})
    user = {"email": "l@example.com", "password": "password", "role": role, "status": "active", "token": "limited"}
    assert (await client.post("~/users", user)).status == 200
    hidden = {"hidden", "b", "high", "period"}
    for payload, status, code, names in [*REFUSED, ({"hidden": "h"}, 409, 204, ["hidden"])]:
        answer = await client.post("~/items/t", payload, token="limited")
        assert said(answer)[:2] == (status, code), answer.body
        message = said(answer)[2]
        assert not [name for name in hidden if f'"{name}"' in message]
        assert [name for name in names if f'"{name}"' in message] == [name for name in names if name not in hidden]
        assert '"t"' in message or not set(names) - hidden
    # Nor one of a collection that the caller may not read.
    await client.patch(f"~/permissions/{granted.data['id']}", {"read": "none"})
    for payload, status, code, _ in REFUSED:
        answer = await client.post("~/items/t", payload, token="limited")
        assert said(answer)[:2] == (status, code)
        assert '"' not in said(answer)[2]
    answer = await client.delete("~/items/one/1", token="limited")
    assert '"t"' not in said(answer)[2]


@ensureDeferred
async def test_unique_constraints_of_the_servers_own_collections_name_their_fields(client: Client) -> None:
    await client.post("~/roles", {"name": "Editors"})
    assert said(await client.post("~/roles", {"name": "editors"}))[2].endswith(': "name" of "directus_roles".')
    user = {"email": "a@example.com", "password": "password", "role": 1, "token": "abc"}
    await client.post("~/users", user)
    assert said(await client.post("~/users", {**user, "token": "d", "email": "A@example.com"}))[2].endswith(
        ': "email" of "directus_users".'
    )
    assert said(await client.post("~/users", {**user, "email": "b@example.com"}))[2].endswith(': "token" of "directus_users".')


@ensureDeferred
async def test_a_value_that_is_too_large_for_an_index_is_refused(client: Client) -> None:
    await client.collection("t", field("name", datatype="TEXT", length=None, unique=True))
    text = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(20000))
    status, code, _ = said(await client.post("~/items/t", {"name": text}))
    assert (status, code) == (422, 12)


@ensureDeferred
async def test_a_value_that_the_database_computes_cannot_be_given(client: Client) -> None:
    await execute(
        client,
        "CREATE TABLE t (id serial PRIMARY KEY, a int NOT NULL, b int NOT NULL GENERATED ALWAYS AS (a * 2) STORED)",
        "SELECT directus_touch('schema')",
    )
    refused = said(await client.post("~/items/t", {"a": 1, "b": 1}))
    assert (refused[:2], '"b"' in refused[2]) == ((422, 4), True)
    item = (await client.post("~/items/t", {"a": 1})).data
    assert item["b"] == 2
    assert said(await client.patch(f"~/items/t/{item['id']}", {"b": 1})) == refused
    assert (await client.patch(f"~/items/t/{item['id']}", {"a": 5})).data["b"] == 10
    first = (await client.get(f"~/items/t/{item['id']}/revisions?sort=id")).data[0]["id"]
    assert (await client.patch(f"~/items/t/{item['id']}/revert/{first}", {})).data == item
    shown = (await client.get("~/fields/t/b")).data
    assert (shown["default_value"], shown["required"]) == (None, False)
    # A column that has become one since.
    await execute(client, "ALTER TABLE t ADD COLUMN c int", "SELECT directus_touch('schema')")
    assert (await client.post("~/items/t", {"a": 1, "c": 1})).status == 200
    await execute(client, "ALTER TABLE t DROP COLUMN c", "ALTER TABLE t ADD COLUMN c int GENERATED ALWAYS AS (a + 1) STORED")
    assert said(await client.post("~/items/t", {"a": 1, "c": 1}))[:2] == (422, 4)


@ensureDeferred
async def test_a_role_with_few_rights_on_tables_of_others(client: Client) -> None:
    """What the rights of the server's role forbid is refused, and the rest works."""
    await client.collection("t", NAME)
    async with limited_role(
        client,
        'REVOKE UPDATE, DELETE ON t FROM "{role}"',
        'REVOKE UPDATE, SELECT ON SEQUENCE t_id_seq FROM "{role}"',
    ) as (role, _):
        assert (await client.post("~/items/t", [{"name": "a"}, {"id": 7, "name": "b"}])).status == 200
        assert [row["id"] for row in (await client.get("~/items/t")).data] == [1, 7]
        for method, path, body in (
            ("PATCH", "~/items/t/1", {"name": "x"}),
            ("DELETE", "~/items/t/1", ...),
            ("POST", "~/fields/t", field("more")),
            ("DELETE", "~/collections/t", ...),
        ):
            answer = await client.call(method, path, body)
            status, code, message = said(answer)
            assert (status, code) in ((403, 302), (403, 303)), message
            assert "database does not allow" in message
            assert not [word for word in ("permission", "owner", role) if word in message]
        assert [row["name"] for row in (await client.get("~/items/t")).data] == ["a", "b"]


@ensureDeferred
async def test_a_missing_privilege_is_named_to_administrators(client: Client) -> None:
    await execute(
        client,
        "CREATE TABLE t (id serial PRIMARY KEY, name text)",
        "CREATE TABLE hidden (id int)",
        "CREATE VIEW v AS SELECT t.id, hidden.id AS other FROM t JOIN hidden ON true",
        "CREATE FUNCTION odd() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        'CREATE TABLE "w W" (id int PRIMARY KEY DEFAULT odd(), name text)',
        "REVOKE EXECUTE ON FUNCTION odd() FROM PUBLIC",
    )
    reader = {"email": "r@example.com", "password": "password", "role": 3, "status": "active", "token": "reader"}
    assert (await client.post("~/roles", {"name": "readers"})).data["id"] == 3
    assert (await client.post("~/users", reader)).status == 200
    for name in ("t", "w W"):
        assert (
            await client.post("~/permissions", {"collection": name, "role": 3, "create": "full", "read": "full"})
        ).status == 200
    generic = "The database does not allow the server to do this"
    async with limited_role(
        client,
        'REVOKE ALL ON SEQUENCE t_id_seq FROM "{role}"',
        'ALTER VIEW v OWNER TO "{role}"',
        'REVOKE ALL ON hidden FROM "{role}"',
    ):
        for method, path, body, named in (
            ("POST", "~/items/t", {"name": "a"}, 'sequence "t_id_seq"'),
            ("POST", "~/items/t", [{"name": "a"}, {"name": "b"}], 'sequence "t_id_seq"'),
            ("POST", "~/items/w%20W", {"name": "a"}, 'function "odd"'),
            ("GET", "~/items/v", ..., 'table "hidden"'),
            ("POST", "~/fields/t", field("more"), 'table "t"'),
            ("POST", "~/fields/w%20W", field("more"), 'table "w W"'),
            ("POST", "~/collections", {"collection": "new", "fields": [KEY]}, 'schema "public"'),
        ):
            assert said(await client.call(method, path, body)) == (403, 302, f"{generic} with the {named}."), path
            if method == "POST" and "items" in path:
                assert said(await client.call(method, path, body, token="reader")) == (403, 302, f"{generic}.")


@ensureDeferred
async def test_a_database_that_takes_no_changes_refuses_writes_alone(client: Client) -> None:
    await client.collection("t", NAME)
    await client.post("~/items/t", {"name": "x"})
    database = client.backend.projects.get(client.project).database
    name = database.parameters["dbname"]
    await execute(client, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    database.close_idle(100)
    status, code, message = said(answer := await client.post("~/items/t", {"name": "y"}))
    assert (status, code, message) == (403, 23, "The project's database can only be read.")
    assert "retry-after" not in answer.headers
    assert (await client.get("~/items/t?fields=name")).data == [{"name": "x"}]


@ensureDeferred
async def test_a_trigger_may_refuse_for_lack_of_privileges(client: Client) -> None:
    await client.collection("t", NAME)
    await client.post("~/items/t", {"name": "x"})
    await execute(
        client,
        "CREATE FUNCTION private() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.name = 'y' THEN RAISE insufficient_privilege USING MESSAGE = 'not at night'; END IF;"
        " RETURN NEW; END $$",
        "CREATE TRIGGER private BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION private()",
    )
    answer = await client.post("~/items/t", {"name": "y"})
    status, code, message = said(answer)
    assert (status, code, message) == (403, 302, "not at night")
