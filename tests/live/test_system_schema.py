"""Projects whose system tables are in a schema of their own, for a role that may not create tables in the schema public."""

import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from attrs import evolve, frozen
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from directus_tx.db.connection import pause
from directus_tx.db.session import Session
from directus_tx.errors import ApiError, InvalidRequest
from directus_tx.jobs.indexes import build_indexes
from directus_tx.projects import archive
from directus_tx.projects.files import ProjectDatabase, parse_file, text_of
from directus_tx.projects.project import Project
from directus_tx.projects.provisioning import checked
from directus_tx.schema import event_triggers
from directus_tx.schema.migrations import migrations
from tests.conftest import KEY, SUPER_ADMIN_TOKEN, TOKEN, Client, Reply, field
from tests.live.test_existing_schemas import PG_DUMP

# With all that could be found in the wrong schema: a type, a trigger that uses names without a schema, a key that counts, a view.
TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE customers (id serial PRIMARY KEY, name text UNIQUE, feels mood DEFAULT 'happy');
CREATE TABLE orders (id serial PRIMARY KEY, customer integer REFERENCES customers, total numeric(10,2) CHECK (total > 0));
CREATE TABLE changes (id serial PRIMARY KEY, what text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO changes (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE VIEW happy AS SELECT id, name FROM customers WHERE feels = 'happy';
INSERT INTO customers (name) VALUES ('Ada');
INSERT INTO orders (customer, total) VALUES (1, 12.5);
"""
CREDENTIALS = {"email": "ada@example.com", "password": "correct-horse"}


@frozen
class Place:
    """A database of somebody else, and a role that may use its tables and owns the schema directus, but creates nothing in public."""

    client: Client
    name: str
    role: str
    postgres: dict[str, Any]

    def run(self, sql: str, *, user: str | None = None) -> list[Any]:
        """Runs SQL as a superuser, or as another role."""
        connection = psycopg2.connect(**{**self.postgres, "dbname": self.name, "user": user or self.postgres["user"]})
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    async def create(self, schema: str = "directus", **more: Any) -> Project:
        """Creates a project, which the client uses from now on."""
        attributes = {
            "project": f"p{secrets.token_hex(4)}",
            "user_email": CREDENTIALS["email"],
            "user_password": CREDENTIALS["password"],
            "user_token": TOKEN,
            "super_admin_token": SUPER_ADMIN_TOKEN,
            "db_name": self.name,
            "db_user": self.role,
            "db_system_schema": schema,
        }
        project = await self.client.backend.projects.create(checked(attributes | more))
        self.client.project = project.key
        return project

    async def dumped(self, *options: str) -> str:
        """The schema public as pg_dump writes it."""
        command = [PG_DUMP, "-h", self.postgres["host"], "-U", self.postgres["user"], "-n", "public", *options, self.name]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))

    def tables(self, schema: str) -> set[str]:
        return {name for (name,) in self.run(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")}


@pytest_twisted.async_yield_fixture
async def place(client: Client, postgres: dict[str, Any]) -> AsyncIterator[Place]:
    number = secrets.token_hex(4)
    name, role = f"shop_{number}", f"server_{number}"
    Place(client, "postgres", role, postgres).run(f"CREATE ROLE {role} LOGIN")
    Place(client, "postgres", role, postgres).run(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    found = Place(client, name, role, postgres)
    found.run(TABLES)
    found.run(f"""
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
        CREATE SCHEMA directus AUTHORIZATION {role};
    """)
    yield found
    for project in dict(client.backend.projects.opened()).values():
        if project.config.database.name == name:
            await client.backend.projects.delete(project.key)
    Place(client, "postgres", role, postgres).run(f"DROP DATABASE {name} WITH (FORCE)")
    Place(client, "postgres", role, postgres).run(f"DROP ROLE {role}")


async def until(condition: Callable[[], bool]) -> None:
    """Returns when a condition holds. Fails after 20 seconds."""
    for _ in range(400):
        if condition():
            return
        await pause(reactor, 0.05)
    raise AssertionError("the condition does not hold")


def answered(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return reply.data


@ensureDeferred
async def test_nothing_is_created_in_public_and_everything_works(place: Place) -> None:
    client = place.client
    before = await place.dumped()
    await place.create()
    assert {name for name in place.tables("public") if name.startswith("directus_")} == set()
    assert "directus_users" in place.tables("directus")
    functions = place.run("SELECT DISTINCT pronamespace::regnamespace::text FROM pg_proc WHERE proname ^@ 'directus_'")
    assert functions == [("directus",)]
    assert (await client.post("~/auth/authenticate", CREDENTIALS, token=None)).status == 200
    names = {each["collection"] for each in answered(await client.get("~/collections?limit=-1"))}
    assert {"customers", "orders", "changes", "happy", "directus_users"} <= names
    assert not any(name.startswith("directus.") for name in names)
    # Foreign keys are relations, and the user who has signed in is found.
    assert answered(await client.get("~/items/orders?fields=total,customer.name,customer.feels")) == [
        {"total": 12.5, "customer": {"name": "Ada", "feels": "happy"}}
    ]
    assert answered(await client.get("~/users/me"))["email"] == CREDENTIALS["email"]
    assert answered(await client.get("~/activity?filter[action]=authenticate&fields=action_by.email"))[0] == {
        "action_by": {"email": CREDENTIALS["email"]}
    }
    # What the system tables of the project describe is not a change of the tables.
    for path in ("~/schema/adopt", "~/schema/adopt"):
        assert (await client.post(path, {})).status == 200
    assert answered(await client.get("~/items/customers?fields=name,orders.total")) == [
        {"name": "Ada", "orders": [{"total": 12.5}]}
    ]
    assert await place.dumped() == before


@ensureDeferred
async def test_items_are_written_with_their_history_and_errors_name_what_they_concern(place: Place) -> None:
    client = place.client
    await place.create()
    made = answered(await client.post("~/items/orders", {"customer": {"name": "Eve", "feels": "sad"}, "total": 3}))
    assert answered(await client.patch(f"~/items/orders/{made['id']}", {"total": 4}))["total"] == 4
    history = answered(await client.get(f"~/items/orders/{made['id']}/revisions"))
    assert [each["delta"].get("total") for each in history] == [3, 4]
    # The trigger of the database has found its own table.
    assert place.run("SELECT what FROM changes ORDER BY id") == [("INSERT",), ("INSERT",), ("UPDATE",)]
    # Keys that clients choose move the sequences, those in public and those of the system tables.
    assert answered(await client.post("~/items/customers", {"id": 50, "name": "Bob"}))["id"] == 50
    assert answered(await client.post("~/items/customers", {"name": "Cid"}))["id"] == 51
    assert answered(await client.post("~/folders", {"id": 9, "name": "a"}))["id"] == 9
    assert answered(await client.post("~/folders", {"name": "b"}))["id"] == 10
    taken = await client.post("~/items/customers", {"name": "Ada"})
    twice = await client.post("~/users", {"email": CREDENTIALS["email"], "password": "password", "role": 1})
    for refused, name in ((taken, "name"), (twice, "email")):
        assert (refused.status, refused.code) == (409, 204), refused.body
        assert f'"{name}"' in refused.json["error"]["message"] or f"{name}:" in refused.json["error"]["message"], refused.body
        assert "directus." not in refused.body.decode()


@ensureDeferred
async def test_permissions_hold_and_changes_are_noticed_by_other_connections(place: Place) -> None:
    client = place.client
    await place.create()
    user = {"email": "u@example.com", "password": "password", "role": 2, "status": "active", "token": "u-token"}
    role = answered(await client.post("~/roles", {"name": "Seller"}))["id"]
    answered(await client.post("~/users", user | {"role": role}))
    assert (await client.get("~/items/orders", token="u-token")).status == 403
    answered(await client.post("~/permissions", {"collection": "orders", "role": role, "read": "full"}))
    assert len(answered(await client.get("~/items/orders", token="u-token"))) == 1
    assert (await client.get("~/items/customers", token="u-token")).status == 403
    # Another program writes a system table; its search_path does not have the schema. The server is notified.
    project = client.backend.projects.get(client.project)
    assert project.current() is not None
    place.run("SET search_path = ''; UPDATE directus.directus_permissions SET read = 'none' WHERE collection = 'orders'")
    await until(lambda: project.current() is None)
    assert (await client.get("~/items/orders", token="u-token")).status == 403


@ensureDeferred
async def test_tables_are_created_in_public_or_refused(place: Place) -> None:
    client = place.client
    await place.create()
    before, tables = await place.dumped(), await place.dumped("--schema-only", "--no-privileges")
    refused = await client.post("~/collections", {"collection": "notes", "fields": [KEY, field("text", unique=True)]})
    assert (refused.status, refused.code) == (403, 302), refused.body
    assert (await client.post("~/fields/orders", field("note"))).code == 302
    assert await place.dumped() == before
    assert "notes" not in place.tables("directus")
    place.run(f"GRANT CREATE ON SCHEMA public TO {place.role}")
    answered(await client.post("~/collections", {"collection": "notes", "fields": [KEY, field("text", unique=True, index=True)]}))
    assert "notes" in place.tables("public")
    answered(await client.post("~/fields/notes", field("owner", type="user", datatype="INT", length=11)))
    assert answered(await client.post("~/items/notes", {"text": "x", "owner": 1}))["id"] == 1
    answered(await client.patch("~/fields/notes/text", {"length": 50, "unique": False}))
    found = place.run("SELECT DISTINCT schemaname FROM pg_indexes WHERE tablename = 'notes'")
    assert found == [("public",)]
    # A field of a system collection is a column there.
    answered(await client.post("~/fields/directus_users", field("nick", unique=True, index=True)))
    assert answered(await client.patch("~/users/1", {"nick": "ada"}))["nick"] == "ada"
    assert (await client.delete("~/fields/directus_users/nick")).status == 204
    assert (await client.delete("~/fields/notes/text")).status == 204
    assert (await client.delete("~/collections/notes")).status == 204
    assert await place.dumped("--schema-only", "--no-privileges") == tables
    assert "notes" not in place.tables("public")


@ensureDeferred
async def test_indexes_are_built_in_the_background_in_the_schema_of_their_table(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = place.client
    project = await place.create()
    place.run(f"ALTER TABLE orders OWNER TO {place.role}; GRANT CREATE ON SCHEMA public TO {place.role}")
    # Every table is too large for its indexes to be created in the request.
    monkeypatch.setattr("directus_tx.schema_service.indexes.SMALL", -1)
    answered(await client.post("~/fields/directus_folders", field("nick")))
    where = "SELECT schemaname FROM pg_indexes WHERE indexname IN ('orders_total_index', 'directus_folders_nick_index')"
    for path, schema in (("~/fields/orders/total", "public"), ("~/fields/directus_folders/nick", "directus")):
        assert answered(await client.patch(path, {"index": True}))["index"]["state"] == "building"
        assert await build_indexes(project)
        assert answered(await client.get(path))["index"]["state"] == "ready"
        assert place.run(where) == [(schema,)]
        answered(await client.patch(path, {"index": False}))
        assert place.run(where) == []


@ensureDeferred
async def test_older_system_tables_are_migrated_where_they_are(place: Place) -> None:
    client = place.client
    project = await place.create()
    before = await place.dumped()
    # As the first versions have left it: the functions have no search_path of their own.
    place.run(f"""
        SET search_path = directus;
        ALTER FUNCTION directus_touch(text) RESET search_path; ALTER FUNCTION directus_touched() RESET search_path;
        DROP TABLE directus_indexes, directus_outbox, directus_outbox_attempts, directus_webhook_keys, directus_failed_attempts,
            directus_used_tokens, directus_user_identities, directus_user_links, directus_user_sign_ins, directus_user_tokens,
            directus_file_contents, directus_scim_groups, directus_scim_users, directus_uploads, directus_upload_parts,
            directus_presigned_uploads;
        DROP FUNCTION directus_wake_outbox, directus_outbox_written, directus_owner_changed CASCADE;
        DROP FUNCTION directus_sessions_ended, directus_status_changed, directus_token_written CASCADE;
        DROP FUNCTION directus_tokens_ended, directus_user_deactivated, directus_new_security_stamp CASCADE;
        DROP TRIGGER directus_touched ON directus_users;
        CREATE TRIGGER directus_touched AFTER INSERT ON directus_users FOR EACH STATEMENT EXECUTE FUNCTION directus_touched('accounts');
        ALTER TABLE directus_users DROP COLUMN token_fingerprint, DROP COLUMN security_stamp, DROP COLUMN stamp_session;
        CREATE UNIQUE INDEX directus_users_token ON directus_users (token);
        DROP INDEX directus_users_unsealed_2fa_secret;
        UPDATE directus_users SET token = '{TOKEN}' WHERE token IS NOT NULL;
        DROP INDEX directus_user_sessions_expired;
        DROP TRIGGER directus_touched ON directus_webhooks;
        DELETE FROM directus_migrations WHERE version > 5;
    """)
    project._restored()
    assert len(answered(await client.get("~/items/orders"))) == 1
    assert "directus_indexes" in place.tables("directus")
    ((settings,),) = place.run("SELECT proconfig FROM pg_proc WHERE proname = 'directus_touch'")
    assert settings == ["search_path=directus, pg_temp"]
    ((version,),) = place.run("SELECT max(version) FROM directus.directus_migrations")
    assert version == migrations()[-1].version
    assert await place.dumped() == before
    # Without the schema nothing is created in public.
    place.run("ALTER SCHEMA directus RENAME TO away")
    project._restored()
    answer = await client.get("~/items/orders")
    assert (answer.status, answer.code) == (503, 16), answer.body
    assert "directus" in answer.json["error"]["message"]
    assert await place.dumped() == before
    place.run("ALTER SCHEMA away RENAME TO directus")


@ensureDeferred
async def test_a_schema_is_created_where_the_role_may(place: Place) -> None:
    with pytest.raises(InvalidRequest, match=r'no schema "other".*CREATE SCHEMA other AUTHORIZATION'):
        await place.create("other")
    place.run(f"GRANT CREATE ON DATABASE {place.name} TO {place.role}")
    await place.create("other")
    assert "directus_users" in place.tables("other")
    assert len(answered(await place.client.get("~/items/orders"))) == 1


@ensureDeferred
async def test_schemas_that_cannot_be_used_are_refused_by_their_reason(place: Place) -> None:
    async def refusal(**more: Any) -> str:
        with pytest.raises(ApiError) as caught:
            await place.create(**more)
        return caught.value.message

    assert await refusal(schema="public") == "The database role has no permission to create tables in the schema public."
    place.run("CREATE SCHEMA closed; CREATE SCHEMA seen; CREATE SCHEMA used; CREATE TABLE used.orders (id int)")
    place.run(f"GRANT USAGE ON SCHEMA seen, used TO {place.role}")
    assert await refusal(schema="closed") == 'The database role lacks the privilege USAGE of the schema "closed".'
    assert await refusal(schema="seen") == "The database role has no permission to create tables in the schema seen."
    assert '"orders"' in await refusal(schema="used")
    for name in ("Upper", "1st", "pg_own", "information_schema", "a-b", 'a"b', "a,b", "n" * 41, "a b", "$user"):
        with pytest.raises(InvalidRequest, match="db_system_schema"):
            await place.create(name)
    with pytest.raises(InvalidRequest, match='"db_system_schema" requires "db_name"'):
        await place.create(db_name=None)
    assert place.tables("public") == {"customers", "orders", "changes"}
    assert place.tables("closed") | place.tables("seen") | place.tables("directus") == set()
    await place.create()
    assert "already contains a project" in await refusal()
    place.run("CREATE TABLE directus_users (id int)")
    assert "The schema public has the system tables" in await refusal(existing=True)


@ensureDeferred
async def test_existing_system_tables_are_used_or_replaced(place: Place) -> None:
    client = place.client
    await place.create()
    before = await place.dumped()
    answered(await client.post("~/roles", {"name": "Seller"}))
    mirror = await place.create(existing=True, user_email="nobody@example.com", user_token=None)
    assert mirror.has_own_users
    assert "Seller" in {role["name"] for role in answered(await client.get("~/roles"))}
    await place.create(force=True)
    assert "Seller" not in {role["name"] for role in answered(await client.get("~/roles"))}
    assert await place.dumped() == before


@ensureDeferred
async def test_a_role_that_may_only_read_uses_the_system_tables(place: Place) -> None:
    client = place.client
    await place.create()
    reader = f"{place.role}_reader"
    place.run(f"""
        CREATE ROLE {reader} LOGIN; GRANT USAGE ON SCHEMA directus TO {reader};
        GRANT SELECT ON ALL TABLES IN SCHEMA public, directus TO {reader};
    """)
    try:
        await place.create(existing=True, user_token=None, db_user=reader)
        assert (await client.post("~/auth/authenticate", CREDENTIALS, token=None)).status == 200
        assert len(answered(await client.get("~/items/orders"))) == 1
        refused = await client.post("~/items/orders", {"total": 1})
        assert (refused.status, refused.code) == (403, 23)
    finally:
        await client.backend.projects.delete(client.project)
        place.run(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


@ensureDeferred
async def test_event_triggers_have_their_function_in_the_schema(place: Place) -> None:
    project = await place.create()
    assert len(answered(await place.client.get("~/items/orders"))) == 1
    place.run(f"ALTER ROLE {place.role} SUPERUSER")
    session = Session(project.database)
    assert await event_triggers.provide(session, wanted=True, asked=True)
    found = place.run(
        "SELECT DISTINCT p.pronamespace::regnamespace::text FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid"
    )
    assert found == [("directus",)]
    project._restored()
    await project.snapshot()
    assert project.changes_noticed_by == "event trigger"
    place.run("ALTER TABLE orders ADD COLUMN note text")
    await until(lambda: project.current() is None)
    assert answered(await place.client.get("~/items/orders?fields=note")) == [{"note": None}]
    assert await event_triggers.provide(session, wanted=False, asked=True)
    assert place.run("SELECT FROM pg_proc WHERE proname = 'directus_tables_changed'") == []


@ensureDeferred
async def test_a_schema_with_the_name_of_the_role_is_not_used_unless_it_is_named(place: Place) -> None:
    place.run(f"CREATE SCHEMA {place.role} AUTHORIZATION {place.role}; GRANT CREATE ON SCHEMA public TO {place.role}")
    await place.create("public")
    assert place.tables(place.role) == set()
    assert "directus_users" in place.tables("public")
    answered(await place.client.post("~/collections", {"collection": "notes", "fields": [KEY]}))
    assert "notes" in place.tables("public")


@ensureDeferred
async def test_two_projects_of_one_database_do_not_disturb_each_other(place: Place) -> None:
    client = place.client
    place.run(f"CREATE SCHEMA second AUTHORIZATION {place.role}")
    first = await place.create(project_name="First")
    second = await place.create("second", project_name="Second", user_token="second-token")
    keys = {"First": (first.key, TOKEN), "Second": (second.key, "second-token")}
    for name, (key, token) in keys.items():
        assert answered(await client.get(f"/{key}/settings?filter[key]=project_name", token=token))[0]["value"] == name
    assert (await client.get(f"/{first.key}/users/me", token="second-token")).status == 401
    assert (await client.get(f"/{second.key}/users/me", token=TOKEN)).status == 401
    # The first one changes more often: its versions are greater, and say nothing about the second.
    assert (await client.post(f"/{first.key}/schema/adopt", {})).status == 200
    for _ in range(5):
        answered(await client.post(f"/{first.key}/folders", {"name": secrets.token_hex(4)}))
        answered(await client.patch(f"/{first.key}/collections/orders", {"note": secrets.token_hex(4)}))
    seen = await second.snapshot()
    restores = second._restores
    answered(await client.patch(f"/{first.key}/collections/orders", {"note": "last"}))
    answered(await client.get(f"/{second.key}/items/orders", token="second-token"))
    assert second.current() is seen
    assert second._restores == restores
    # Tables are the same for both; the system tables of the other are no collections.
    names = {
        each["collection"] for each in answered(await client.get(f"/{second.key}/collections?limit=-1", token="second-token"))
    }
    assert {"orders", "customers"} <= names
    assert not any("." in name for name in names)


@ensureDeferred
async def test_tables_in_the_schema_and_the_schema_among_others_are_left_out(place: Place) -> None:
    client = place.client
    project = await place.create()
    place.run(
        "CREATE TABLE directus.orders (id int PRIMARY KEY); CREATE SCHEMA sales; CREATE TABLE sales.directus_users (id int)"
    )
    place.run(f"GRANT SELECT ON directus.orders TO {place.role}; GRANT USAGE ON SCHEMA sales TO {place.role}")
    place.run(f"GRANT SELECT ON sales.directus_users TO {place.role}")
    project._schemas = ("sales", "directus")
    project._restored()
    names = {each["collection"] for each in answered(await client.get("~/collections?limit=-1"))}
    assert "orders" not in names
    assert not any("." in name for name in names)
    left = {each.name: each.reason for each in (await project.snapshot()).left_out}
    assert "hides a table of the same name" in left["directus.orders"]
    assert left["directus"] == "The schema holds the system tables of the project."
    assert "sales.directus_users" in left


@ensureDeferred
async def test_a_project_is_exported_and_imported_with_its_schema(place: Place, tmp_path: Any) -> None:
    client = place.client
    project = await place.create()
    place.run(f"GRANT CREATE ON DATABASE {place.name} TO {place.role}")
    answered(await client.post("~/items/orders", {"customer": 1, "total": 7}))
    projects = client.backend.projects
    file = tmp_path / "shop.tar"
    parameters = projects.databases.parameters(project.config.database)
    await deferToThread(archive.write, file, project.config, parameters, PG_DUMP.parent)
    read = archive.read_config(file)
    config = evolve(read, key=f"{project.key}b", database=evolve(read.database, schemas=("sales",)))

    async def restore(parameters: Any) -> None:
        await deferToThread(archive.restore, file, parameters, PG_DUMP.parent)

    restored = await projects.restore(config, restore)
    try:
        assert (restored.config.database.system_schema, restored.config.database.schemas) == ("directus", ("sales",))
        path = f"/{restored.key}/items/orders"
        assert [row["total"] for row in answered(await client.get(path))] == [12.5, 7]
        assert answered(await client.post(path, {"customer": 1, "total": 8}))["id"] == 3
        assert (await client.post(f"/{restored.key}/schema/adopt", {})).status == 200
        assert answered(await client.patch(f"/{restored.key}/collections/orders", {"note": "n"}))["note"] == "n"
    finally:
        await projects.delete(restored.key)


def test_a_project_file_names_the_schema() -> None:
    text = 'secret_key = "s"\npublic_key = "p"\n[database]\nname = "shop"\n'
    assert parse_file("shop.toml", text.encode()).database == ProjectDatabase("shop")
    found = parse_file("shop.toml", f'{text}system_schema = "directus"\n'.encode())
    assert found.database == ProjectDatabase("shop", system_schema="directus")
    assert parse_file("shop.toml", text_of(found).encode()) == found
    assert "system_schema" not in text_of(parse_file("shop.toml", f'{text}system_schema = "public"\n'.encode()))
    for line in ('system_schema = "A"', "system_schema = 1", 'system_schema = "pg_x"', 'system_schema = ""'):
        with pytest.raises(ValueError, match=r"database\.system_schema must"):
            parse_file("shop.toml", f"{text}{line}\n".encode())
    with pytest.raises(ValueError, match="schemas"):
        parse_file("shop.toml", f'{text}schemas = ["sales"]\nsystem_schema = "sales"\n'.encode())
