"""Hooks of plugins: filters, actions before and after, their order, errors and limits, and how they are enabled in projects."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from directus_tx.api import Context, Query, Response, errors, hookimpl, plain
from directus_tx.db.session import Session
from directus_tx.plugins.manager import Plugins
from tests.conftest import TOKEN, Client, field


class Plugin:
    """What the plugins of these tests have in common."""

    directus_tx_api = 1

    def __init__(self) -> None:
        self.heard: list[Any] = []


@pytest.fixture
def logged() -> Any:
    """The messages that are logged, with the text of their exceptions."""
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        failure = event.get("log_failure")
        found.append(formatEvent(event) + ("" if failure is None else "\n" + failure.getTraceback()))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def use(client: Client, *plugins: object, names: tuple[str, ...] = (), **settings: Any) -> Plugins:
    """Makes the server use plugins. *names* are theirs, *settings* are some of [plugins]."""
    manager = client.backend.plugins
    manager.settings = evolve(manager.settings, **settings)
    for place, plugin in enumerate(plugins):
        manager.register(plugin, names[place] if names else f"plugin{place}")
    return manager


def set_project(client: Client, text: str) -> None:
    """Adds lines to the project file."""
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    path.write_text(path.read_text() + text)


# --- filters and actions of writes


@ensureDeferred
async def test_filters_change_and_refuse_writes(client: Client) -> None:
    class Filters(Plugin):
        @hookimpl
        async def item_create(self, ctx: Context, collection: str, payload: dict[str, Any]) -> None:
            assert ctx.in_transaction
            if collection == "things":
                if payload["name"] == "forbidden":
                    raise errors.InvalidRequest("Not that one.")
                payload.setdefault("title", f"The {payload['name']}")

        @hookimpl
        def item_update(self, key: Any, payload: dict[str, Any]) -> Any:
            payload["title"] = f"Changed {key}"
            return defer.succeed(None)

        @hookimpl
        def item_delete(self, key: Any) -> None:
            if key == 1:
                raise errors.DeleteForbidden("The first one stays.")

    await client.collection("things", field("name"), field("title"))
    use(client, Filters())
    created = await client.post("~/items/things", [{"name": "a"}, {"name": "b", "title": "B"}])
    assert [item["title"] for item in created.data] == ["The a", "B"]
    refused = await client.post("~/items/things", [{"name": "c"}, {"name": "forbidden"}])
    assert (refused.status, refused.code, refused.json["error"]["message"]) == (422, 4, "Not that one.")
    assert (await client.patch("~/items/things/2", {"name": "d"})).data == {"id": 2, "name": "d", "title": "Changed 2"}
    assert (await client.delete("~/items/things/2,1")).status == 403
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["a", "d"]
    assert (await client.delete("~/items/things/2")).status == 204
    # What a filter sets is validated like what a client sends.
    assert (await client.post("~/items/things", {"name": "x" * 199})).status == 422
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["a"]


@ensureDeferred
async def test_actions_before_see_what_is_written_and_cannot_change_it(client: Client) -> None:
    class Actions(Plugin):
        @hookimpl
        def item_create(self, payload: dict[str, Any]) -> None:
            payload["title"] = "made"

        @hookimpl
        def item_create_before(self, ctx: Context, collection: str, payload: Any) -> None:
            assert ctx.in_transaction
            self.heard.append((collection, plain(payload)))
            for change in (lambda: payload.update(title="x"), lambda: payload.__setitem__("title", "x")):
                with pytest.raises((AttributeError, TypeError)):
                    change()
            if payload.get("parts"):
                with pytest.raises(TypeError):
                    payload["parts"][0]["name"] = "x"
            if payload["name"] == "refused":
                raise errors.InvalidPayload("Refused.")

        @hookimpl
        def item_update_before(self, key: Any, payload: Any) -> None:
            self.heard.append((key, plain(payload)))

        @hookimpl
        def item_delete_before(self, key: Any) -> None:
            self.heard.append(key)

    await client.collection(
        "things", field("name"), field("title"), {"field": "parts", "type": "o2m", "interface": "one-to-many"}
    )
    await client.collection("parts", field("name"), field("title"), field("thing", "m2o", "INT", 11))
    relation = {"collection_many": "parts", "field_many": "thing", "collection_one": "things", "field_one": "parts"}
    assert (await client.post("~/relations", relation)).status == 200
    plugin = Actions()
    use(client, plugin)
    assert (await client.post("~/items/things", {"name": "a", "parts": [{"name": "p"}]})).data["title"] == "made"
    assert plugin.heard == [
        ("things", {"name": "a", "parts": [{"name": "p"}], "title": "made"}),
        ("parts", {"name": "p", "thing": 1, "title": "made"}),
    ]
    refused = await client.post("~/items/things", {"name": "b", "parts": [{"name": "refused"}]})
    assert (refused.status, refused.json["error"]["message"]) == (422, "Refused.")
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["a"]
    plugin.heard.clear()
    await client.patch("~/items/things/1", {"name": "c"})
    await client.delete("~/items/things/1")
    assert plugin.heard == [(1, {"name": "c"}), 1]


class Listener(Plugin):
    """Hears of what has happened, and fails each time."""

    @hookimpl
    async def item_create_after(self, ctx: Context, collection: str, key: Any, payload: Any) -> None:
        assert not ctx.in_transaction
        self.heard.append(("created", collection, key, plain(payload)))
        raise RuntimeError("nothing that a client needs to know")

    @hookimpl
    def item_update_after(self, collection: str, key: Any) -> None:
        self.heard.append(("updated", collection, key))
        raise errors.InvalidRequest("not an answer")

    @hookimpl
    def item_delete_after(self, collection: str, key: Any) -> None:
        self.heard.append(("deleted", collection, key))
        raise SystemExit(1)


@ensureDeferred
async def test_actions_after_are_called_after_the_commit_and_break_no_answer(client: Client, logged: list[str]) -> None:
    await client.collection("things", field("name"))
    failing, second = Listener(), Listener()
    use(client, second, failing, names=("second", "failing"))
    assert (await client.post("~/items/things", {"name": "a"})).data == {"id": 1, "name": "a"}
    assert (await client.patch("~/items/things/1", {"name": "b"})).data == {"id": 1, "name": "b"}
    assert (await client.delete("~/items/things/1")).status == 204
    heard = [("created", "things", 1, {"name": "a"}), ("updated", "things", 1), ("deleted", "things", 1)]
    assert failing.heard == second.heard == heard
    for name in ("second", "failing"):
        for hook in ("item_create_after", "item_update_after", "item_delete_after"):
            assert [text for text in logged if text.startswith(f"the plugin {name} failed in {hook}")], (name, hook)


@ensureDeferred
async def test_actions_after_are_not_called_for_a_write_that_may_not_have_been_made(client: Client) -> None:
    await client.collection("things", field("name"))
    plugin = Listener()
    use(client, plugin)
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(
        lambda session: session.query(
            "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
            " CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION end_it()"
        )
    )
    answer = await client.post("~/items/things", {"name": "a"})
    assert (answer.status, answer.code) == (503, 16)
    assert "not known" in answer.json["error"]["message"]
    assert plugin.heard == []
    assert (await client.get("~/items/things")).data == []


@ensureDeferred
async def test_a_transaction_that_is_run_again_keeps_what_hooks_write_once(client: Client) -> None:
    class Counting(Plugin):
        @hookimpl
        async def item_create(self, ctx: Context, collection: str, payload: dict[str, Any]) -> None:
            if collection == "things":
                self.heard.append(payload["name"])
                await ctx.as_administrator().items.create("notes", {"name": f"of {payload['name']}"})

        @hookimpl
        def item_create_after(self, collection: str) -> None:
            self.heard.append(f"after {collection}")

    await client.collection("things", field("name"))
    await client.collection("notes", field("name"))
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(
        lambda session: session.query(
            "CREATE SEQUENCE attempts; CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF nextval('attempts') < 3 THEN RAISE SQLSTATE '40001'; END IF; RETURN NEW; END$$;"
            " CREATE TRIGGER failing BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION fail_twice()"
        )
    )
    plugin = Counting()
    use(client, plugin)
    assert (await client.post("~/items/things", {"name": "a"})).status == 200
    # Called with each attempt; the actions after with the one that was committed, the nested write included.
    assert plugin.heard == ["a", "a", "a", "after notes", "after things"]
    assert [item["name"] for item in (await client.get("~/items/notes?fields=name")).data] == ["of a"]
    history = (await client.get("~/activity?filter[collection]=notes&fields=action")).data
    assert history == [{"action": "create"}]


@ensureDeferred
async def test_a_serialization_failure_within_a_hook_runs_the_transaction_again(client: Client) -> None:
    class Failing(Plugin):
        @hookimpl
        async def item_create(self, ctx: Context, payload: dict[str, Any]) -> None:
            self.heard.append(1)
            await ctx.query("SELECT fail_once()")

    await client.collection("things", field("name"))
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(
        lambda session: session.query(
            "CREATE SEQUENCE attempts; CREATE FUNCTION fail_once() RETURNS void LANGUAGE plpgsql AS"
            " $$BEGIN IF nextval('attempts') < 2 THEN RAISE SQLSTATE '40P01'; END IF; END$$"
        )
    )
    plugin = Failing()
    manager = use(client, plugin)
    assert (await client.post("~/items/things", {"name": "a"})).status == 200
    assert len(plugin.heard) == 2
    (hook,) = manager.shown()[0]["hooks"]
    assert (hook["calls"], hook["failures"]) == (2, 0)


# --- reads and answers


@ensureDeferred
async def test_items_are_filtered_wherever_they_are_shown(client: Client) -> None:
    class Masking(Plugin):
        @hookimpl
        def item_read(self, collection: str, items: list[dict[str, Any]]) -> None:
            if collection == "things":
                for item in items:
                    if "name" in item:
                        item["name"] = item["name"].upper()
                items.clear()

    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": f"n{n}"} for n in range(3)])
    use(client, Masking())
    names = lambda reply: [item["name"] for item in reply.data]  # noqa: E731
    assert names(await client.get("~/items/things")) == ["N0", "N1", "N2"]
    assert names(await client.get("~/items/things/1,3")) == ["N0", "N2"]
    shown = await client.post("~/gql", {"query": "{things(limit: 1){data{called: name}}}"})
    assert shown.json == {"data": {"things": {"data": [{"called": "N0"}]}}}
    assert (await client.get("~/items/things/2?fields=name")).data == {"name": "N1"}
    assert (await client.get("~/items/things?single=1&fields=name")).data == {"name": "N0"}
    assert names(await client.get("~/items/things?cursor=&limit=2")) == ["N0", "N1"]
    assert (await client.patch("~/items/things/1", {"name": "m"})).data["name"] == "M"
    assert (await client.get("~/items/things?export=json")).json == [
        {"id": n + 1, "name": f"{'MNN'[n]}{['', 1, 2][n]}"} for n in range(3)
    ]
    assert (
        b'"N1"' in (await client.get("~/items/things?export=csv")).body
        or b"N1" in (await client.get("~/items/things?export=csv")).body
    )
    assert (await client.get("~/items/things?aggregate[count]=*")).data[0]
    assert (await client.get("~/items/things?fields=id")).data[0] == {"id": 1}
    unchanged = (await client.get("~/items/things/1")).headers["etag"]
    assert (await client.get("~/items/things/1", headers={"If-None-Match": unchanged})).status == 304


@ensureDeferred
async def test_long_lists_are_filtered_in_batches(client: Client) -> None:
    class Marking(Plugin):
        @hookimpl
        def item_read(self, items: list[dict[str, Any]]) -> None:
            self.heard.append(len(items))
            for item in items:
                item["mark"] = True

        @hookimpl
        def item_read_before(self, collection: str, query: Query, keys: Any) -> None:
            self.heard.append((collection, query.limit, keys))

        @hookimpl
        def item_read_after(self, items: Any) -> None:
            assert all(item["mark"] for item in items)
            with pytest.raises(TypeError):
                items[0]["mark"] = False
            self.heard.append(-len(items))

    await client.collection("things", field("name"))
    for _ in range(3):
        await client.post("~/items/things?fields=id", [{"name": "a"}] * 500)
    plugin = Marking()
    use(client, plugin)
    items = (await client.get("~/items/things?limit=-1")).data
    assert len(items) == 1500
    assert all(item["mark"] for item in items)
    assert plugin.heard[0] == ("things", -1, None)
    assert sum(number for number in plugin.heard[1:] if number > 0) == 1500
    assert sum(plugin.heard[1:]) == 0
    assert len(plugin.heard) >= 5
    plugin.heard.clear()
    await client.get("~/items/things/7,8")
    assert plugin.heard == [("things", None, ("7", "8")), 2, -2]


@ensureDeferred
async def test_an_action_before_reading_refuses(client: Client) -> None:
    class Refusing(Plugin):
        @hookimpl
        async def item_read_before(self, ctx: Context, collection: str) -> None:
            if collection == "things" and ctx.accountability.public:
                raise errors.ReadForbidden("Not today.")

        @hookimpl
        def item_read_after(self, collection: str, items: Any) -> None:
            raise RuntimeError("after")

    await client.collection("things", field("name"))
    await client.post("~/permissions", {"collection": "things", "role": 2, "read": "full"})
    await client.post("~/items/things", {"name": "a"})
    use(client, Refusing())
    assert (await client.get("~/items/things")).data == [{"id": 1, "name": "a"}]
    for path in ("~/items/things", "~/items/things/1", "~/items/things?export=csv"):
        refused = await client.get(path, token=None)
        assert (refused.status, refused.json["error"]["message"]) == (403, "Not today.")


@ensureDeferred
async def test_answers_are_filtered(client: Client) -> None:
    class Answers(Plugin):
        @hookimpl
        def response(self, ctx: Context, response: Response) -> None:
            self.heard.append((response.method, response.route, dict(response.arguments), ctx.accountability.user))
            response.headers["X-Plugin"] = "here"
            if response.route == "/<project>/items/<collection>":
                response.data = {"items": response.data}
                response.meta = {"extra": 1, **(response.meta or {})}

    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "a"})
    plugin = Answers()
    use(client, plugin)
    answer = await client.get("~/items/things?meta=result_count")
    assert answer.json == {"meta": {"extra": 1, "result_count": 1}, "data": {"items": [{"id": 1, "name": "a"}]}}
    assert answer.headers["x-plugin"] == "here"
    arguments = {"project": client.project, "collection": "things"}
    assert plugin.heard == [("GET", "/<project>/items/<collection>", arguments, 1)]
    # Also where there is no body, where it is written while it is read, and of HEAD requests; not of other routes and of errors.
    for method, path, status in (
        ("DELETE", "~/items/things/1", 204),
        ("GET", "~/items/things?export=csv", 200),
        ("HEAD", "~/users/me", 200),
    ):
        found = await client.call(method, path)
        assert (found.status, found.headers.get("x-plugin")) == (status, "here"), path
    for path in ("~/items/nothing", "/server/ping"):
        assert "x-plugin" not in (await client.get(path)).headers


# --- other events


class Events(Plugin):
    """Hears of all actions that are not about items."""

    @hookimpl
    def collection_create_before(self, ctx: Context, collection: str, payload: Any) -> None:
        assert ctx.in_transaction
        self.heard.append(("create", collection, len(payload["fields"])))
        if collection == "refused":
            raise errors.InvalidRequest("Not that one.")

    @hookimpl
    async def collection_create_after(self, ctx: Context, collection: str) -> None:
        self.heard.append(("created", collection, await ctx.items.read(collection)))

    @hookimpl
    def collection_update_before(self, collection: str, payload: Any) -> None:
        self.heard.append(("update", collection, plain(payload)))

    @hookimpl
    def collection_update_after(self, collection: str) -> None:
        self.heard.append(("updated", collection))

    @hookimpl
    def collection_delete_before(self, ctx: Context, collection: str) -> None:
        assert ctx.in_transaction
        self.heard.append(("delete", collection))

    @hookimpl
    def collection_delete_after(self, ctx: Context, collection: str) -> None:
        assert not ctx.in_transaction
        self.heard.append(("deleted", collection))

    @hookimpl
    def field_create_before(self, collection: str, field: str, payload: Any) -> None:
        self.heard.append(("create", collection, field, payload["type"]))

    @hookimpl
    async def field_create_after(self, ctx: Context, collection: str, field: str) -> None:
        self.heard.append(("created", collection, field, await ctx.items.read(collection, Query(fields=(field,)))))

    @hookimpl
    def field_update_before(self, collection: str, field: str, payload: Any) -> None:
        self.heard.append(("update", collection, field, payload["note"]))

    @hookimpl
    def field_update_after(self, collection: str, field: str) -> None:
        self.heard.append(("updated", collection, field))

    @hookimpl
    def field_delete_before(self, collection: str, field: str) -> None:
        self.heard.append(("delete", collection, field))
        if field == "name":
            raise errors.InvalidRequest("Not that one.")

    @hookimpl
    def field_delete_after(self, collection: str, field: str) -> None:
        self.heard.append(("deleted", collection, field))


@ensureDeferred
async def test_plugins_hear_of_collections_and_fields(client: Client) -> None:
    plugin = Events()
    use(client, plugin)

    async def heard(request: Any) -> tuple[int, list[Any]]:
        plugin.heard.clear()
        return (await request).status, list(plugin.heard)

    key = {"field": "id", "type": "integer", "datatype": "INT", "length": 11, "primary_key": True, "auto_increment": True}
    payload = {"collection": "things", "fields": [{**key, "interface": "primary-key"}, field("name")]}
    assert await heard(client.post("~/collections", payload)) == (200, [("create", "things", 2), ("created", "things", [])])
    refused = client.post("~/collections", {**payload, "collection": "refused"})
    assert await heard(refused) == (422, [("create", "refused", 2)])
    assert (await client.get("~/collections/refused")).status == 404
    await client.post("~/items/things", {"name": "a"})
    added = await heard(client.post("~/fields/things", field("title")))
    assert added == (200, [("create", "things", "title", "string"), ("created", "things", "title", [{"title": None}])])
    note = {"note": "n"}
    changed = [("update", "things", "title", "n"), ("updated", "things", "title")]
    assert await heard(client.patch("~/fields/things/title", note)) == (200, changed)
    assert await heard(client.patch("~/collections/things", note)) == (
        200,
        [("update", "things", note), ("updated", "things")],
    )
    deleted = [("delete", "things", "title"), ("deleted", "things", "title")]
    assert await heard(client.delete("~/fields/things/title")) == (204, deleted)
    assert await heard(client.delete("~/fields/things/name")) == (422, [("delete", "things", "name")])
    assert (await client.get("~/fields/things/name")).status == 200
    assert await heard(client.delete("~/collections/things")) == (204, [("delete", "things"), ("deleted", "things")])


@ensureDeferred
async def test_plugins_hear_of_files(client: Client) -> None:
    class Files(Plugin):
        @hookimpl
        def file_save_before(self, ctx: Context, key: Any, content: Any) -> None:
            assert ctx.in_transaction
            self.heard.append(("save", key, content["name"], content["size"]))
            if content["name"].endswith(".exe"):
                raise errors.InvalidRequest("No programs.")

        @hookimpl
        def file_save_after(self, ctx: Context, key: Any, content: Any) -> None:
            self.heard.append(("saved", key, len(content["sha256"])))

        @hookimpl
        def file_delete_before(self, key: Any) -> None:
            self.heard.append(("delete", key))

        @hookimpl
        def file_delete_after(self, key: Any) -> None:
            self.heard.append(("deleted", key))

    plugin = Files()
    use(client, plugin)

    def form(name: str, data: bytes) -> tuple[bytes, dict[str, str]]:
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        return head + data + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}

    body, headers = form("a.txt", b"hello")
    assert (await client.post("~/files", body, headers=headers)).status == 200
    body, headers = form("b.exe", b"hello!")
    refused = await client.post("~/files", body, headers=headers)
    assert (refused.status, refused.json["error"]["message"]) == (422, "No programs.")
    assert (await client.delete("~/files/1")).status == 204
    assert plugin.heard == [
        ("save", None, "a.txt", 5),
        ("saved", 1, 64),
        ("save", None, "b.exe", 6),
        ("delete", 1),
        ("deleted", 1),
    ]
    assert (await client.get("~/files")).data == []


@ensureDeferred
async def test_plugins_hear_of_attempts_to_sign_in(client: Client) -> None:
    class SignIns(Plugin):
        @hookimpl
        def auth_success(self, ctx: Context, user: int, provider: str | None) -> None:
            self.heard.append((user, provider))

        @hookimpl
        def auth_fail(self, email: str | None, provider: str | None, code: int) -> None:
            self.heard.append((email, provider, code))
            raise RuntimeError("not to be seen")

    plugin = SignIns()
    use(client, plugin)
    for password, status in (("password", 200), ("wrong", 404)):
        body = {"email": "admin@example.com", "password": password}
        answer = await client.post("~/auth/authenticate", body, token=None)
        assert answer.status == status, answer.body
    assert (await client.post("~/auth/authenticate", {"email": ["x"]}, token=None)).status == 422
    assert plugin.heard == [(1, None), ("admin@example.com", None, 100), (None, None, 114)]


@ensureDeferred
async def test_plugins_hear_of_failures_of_the_server(client: Client, logged: list[str]) -> None:
    class Failing(Plugin):
        @hookimpl
        def item_read(self, items: Any) -> None:
            raise RuntimeError("a reason that clients are not told")

        @hookimpl
        async def application_error(self, ctx: Context, error: Exception, request_id: str) -> None:
            self.heard.append((ctx.project, str(error), request_id))

    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "a"})
    plugin = Failing()
    use(client, plugin, names=("faulty",))
    answer = await client.get("~/items/things")
    assert (answer.status, answer.code) == (500, 0)
    assert b"reason" not in answer.body
    assert b"faulty" not in answer.body
    assert plugin.heard == [(client.project, "The plugin faulty failed in item_read.", answer.headers["x-request-id"])]
    text = "\n".join(logged)
    assert "the plugin faulty failed in item_read (request " in text
    assert "a reason that clients are not told" in text


# --- the context


@ensureDeferred
async def test_hooks_read_and_write_as_the_caller_or_as_an_administrator_on_purpose(client: Client) -> None:
    class Writing(Plugin):
        @hookimpl
        async def item_create_before(self, ctx: Context, collection: str, payload: Any) -> None:
            if collection != "things":
                return
            own = ctx.items
            if payload["name"] == "as caller":
                await own.create("secrets", {"name": "x"})
            found = await ctx.as_administrator().items.create("secrets", {"name": "by the plugin"})
            assert found is not None
            await ctx.as_administrator().items.update("secrets", found["id"], {"name": "changed"})
            self.heard.append(await ctx.as_administrator().items.read("secrets", Query(fields=("name",))))
            self.heard.append((await ctx.as_administrator().items.read_one("secrets", found["id"]))["name"])
            self.heard.append(await ctx.query("SELECT name FROM secrets WHERE id = %s", (found["id"],)))
            with pytest.raises(errors.ReadForbidden):
                await own.read("secrets")
            with pytest.raises(errors.ItemNotFound):
                await ctx.as_administrator().items.delete("secrets", 99)

    await client.collection("things", field("name"))
    await client.collection("secrets", field("name"))
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    author = (await client.post("~/users", user)).data["id"]
    await client.post("~/permissions", {"collection": "things", "role": role, "create": "full", "read": "full"})
    plugin = Writing()
    use(client, plugin)
    assert (await client.post("~/items/things", {"name": "a"}, token="writer")).status == 200
    assert plugin.heard == [[{"name": "changed"}], "changed", [("changed",)]]
    history = (await client.get("~/activity?filter[collection]=secrets&fields=action,action_by")).data
    assert history == [{"action": action, "action_by": author} for action in ("create", "update")]
    refused = await client.post("~/items/things", {"name": "as caller"}, token="writer")
    assert refused.status == 403
    assert len((await client.get("~/items/secrets")).data) == 1
    # The transaction of a refused item is rolled back, with what the plugin has written.
    duplicate = await client.post("~/items/things", [{"name": "b"}, {"name": "x" * 201}], token="writer")
    assert duplicate.status == 422
    assert len((await client.get("~/items/secrets")).data) == 1


@ensureDeferred
async def test_a_write_in_a_hook_is_undone_by_itself_if_it_fails(client: Client) -> None:
    class Trying(Plugin):
        @hookimpl
        async def item_create(self, ctx: Context, collection: str, payload: dict[str, Any]) -> None:
            if collection != "things":
                return
            # The second part is too long, when the note and the first part have been written.
            parts = [{"name": "fits"}, {"name": "x" * 201}]
            with pytest.raises(errors.InvalidPayload):
                await ctx.items.create("notes", {"name": "gone", "parts": parts})
            await ctx.items.create("notes", {"name": "once"})
            with pytest.raises(errors.NotUnique):
                await ctx.items.create("notes", {"name": "once"})

            async def work(ctx: Context) -> None:
                await ctx.items.create("notes", {"name": "also gone"})
                raise KeyError("work")

            with pytest.raises(KeyError):
                await ctx.transaction(work)
            payload["name"] = "made"

        @hookimpl
        def item_create_after(self, collection: str, payload: Any) -> None:
            self.heard.append((collection, payload["name"]))

    parts = {"field": "parts", "type": "o2m", "interface": "one-to-many"}
    await client.collection("things", field("name"))
    await client.collection("notes", field("name", unique=True), parts)
    await client.collection("parts", field("name"), field("note", "m2o", "INT", 11))
    relation = {"collection_many": "parts", "field_many": "note", "collection_one": "notes", "field_one": "parts"}
    assert (await client.post("~/relations", relation)).status == 200
    plugin = Trying()
    use(client, plugin)
    assert (await client.post("~/items/things", {"name": "a"})).data["name"] == "made"
    assert plugin.heard == [("notes", "once"), ("things", "made")]
    assert [note["name"] for note in (await client.get("~/items/notes")).data] == ["once"]
    assert (await client.get("~/items/parts")).data == []
    history = (await client.get("~/activity?filter[collection][in]=notes,parts&fields=collection")).data
    assert history == [{"collection": "notes"}]


@ensureDeferred
async def test_answers_of_graphql_are_filtered_and_plugins_hear_of_adopted_tables(client: Client) -> None:
    class Hearing(Plugin):
        @hookimpl
        def item_create(self, collection: str, payload: dict[str, Any]) -> None:
            if collection == "things":
                payload["name"] += "!"

        @hookimpl
        def item_read(self, collection: str, items: list[dict[str, Any]]) -> None:
            for item in items if collection == "things" else ():
                item["name"] = item["name"].upper()

        @hookimpl
        def collection_create_before(self, collection: str, payload: Any) -> None:
            self.heard.append((collection, len(payload)))

        @hookimpl
        def collection_create_after(self, collection: str) -> None:
            self.heard.append(collection)

    await client.collection("things", field("name"))
    plugin = Hearing()
    use(client, plugin)
    await client.post("~/items/things", {"name": "a"})
    found = await client.post("~/gql", {"query": "{things{data{name}}}"})
    assert found.json == {"data": {"things": {"data": [{"name": "A!"}]}}}
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(lambda session: session.query("CREATE TABLE found (id serial PRIMARY KEY)"))
    assert (await client.post("~/schema/adopt", {"tables": ["found"]})).status == 200
    assert plugin.heard == [("found", 0), "found"]


@ensureDeferred
async def test_a_context_that_is_kept_longer_than_its_transaction_is_refused(client: Client, logged: list[str]) -> None:
    class Keeping(Plugin):
        @hookimpl
        def item_create(self, ctx: Context) -> None:
            self.heard.append(ctx)
            # Not waited for, as a plugin must not do it.
            defer.Deferred.fromCoroutine(ctx.query("SELECT pg_sleep(0.2)")).addErrback(lambda _: None)

    await client.collection("things", field("name"))
    plugin = Keeping()
    use(client, plugin)
    assert (await client.post("~/items/things", {"name": "a"})).status == 200
    (ctx,) = plugin.heard
    with pytest.raises(errors.InternalError, match="has ended"):
        await ctx.query("SELECT 1")
    with pytest.raises(errors.InternalError, match="has ended"):
        await ctx.items.create("things", {"name": "b"})
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["a"]


@ensureDeferred
async def test_hooks_that_cause_each_other_without_end_are_stopped(client: Client, logged: list[str]) -> None:
    class Endless(Plugin):
        @hookimpl
        async def item_create_after(self, ctx: Context, collection: str, payload: Any) -> None:
            if collection == "things":
                await ctx.items.create("things", {"name": payload["name"] + "+"})

    class Recursive(Plugin):
        @hookimpl
        async def item_update(self, ctx: Context, collection: str, key: Any) -> None:
            await ctx.items.update(collection, key, {"name": "again"})

    await client.collection("things", field("name"))
    use(client, Endless(), Recursive(), names=("endless", "recursive"))
    assert (await client.post("~/items/things", {"name": "a"})).status == 200
    names = [item["name"] for item in (await client.get("~/items/things?sort=id")).data]
    assert names == ["a" + "+" * n for n in range(9)]
    assert [text for text in logged if "nested more than 8 deep; it is implemented by endless" in text]
    answer = await client.patch("~/items/things/1", {"name": "b"})
    assert answer.status == 500
    assert (await client.get("~/items/things/1")).data["name"] == "a"


# --- order, wrappers, what is enabled


@ensureDeferred
async def test_hooks_are_called_in_the_order_that_pluggy_defines(client: Client) -> None:
    heard: list[str] = []

    def plugin(name: str, **options: bool) -> Any:
        class Ordered(Plugin):
            @hookimpl(**options)
            async def item_create(self, payload: dict[str, Any]) -> None:
                await deferLater(reactor, 0)
                heard.append(name)
                payload["name"] += name

        return Ordered()

    def wrapping(name: str, old: bool = False) -> Any:
        class Wrapping(Plugin):
            if old:

                @hookimpl(hookwrapper=True)
                def item_create(self, payload: dict[str, Any]) -> Any:
                    heard.append(f"<{name}")
                    outcome = yield
                    outcome.get_result()
                    heard.append(f"{name}>")
            else:

                @hookimpl(wrapper=True)
                def item_create(self, payload: dict[str, Any]) -> Any:
                    heard.append(f"<{name}")
                    try:
                        return (yield)
                    finally:
                        heard.append(f"{name}> {payload['name']}")

        return Wrapping()

    await client.collection("things", field("name"))
    use(
        client,
        plugin("a"),
        plugin("b", trylast=True),
        plugin("c"),
        plugin("d", tryfirst=True),
        plugin("e"),
        wrapping("v", old=True),
        wrapping("w"),
    )
    assert (await client.post("~/items/things", {"name": "-"})).data["name"] == "-decab"
    assert heard == ["<w", "<v", "d", "e", "c", "a", "b", "v>", "w> -decab"]


@ensureDeferred
async def test_wrappers_see_refusals_and_can_replace_them(client: Client, logged: list[str]) -> None:
    class Refusing(Plugin):
        @hookimpl
        def item_create(self, payload: dict[str, Any]) -> None:
            raise errors.InvalidRequest("inner")

    class Replacing(Plugin):
        @hookimpl(wrapper=True)
        def item_create(self, payload: dict[str, Any]) -> Any:
            try:
                return (yield)
            except errors.InvalidRequest as error:
                if payload["name"] == "excused":
                    return None
                if payload["name"] == "value":
                    return 1
                raise errors.InvalidPayload(f"outer after {error.message}") from error

    await client.collection("things", field("name"))
    use(client, Refusing(), Replacing())
    answer = await client.post("~/items/things", {"name": "a"})
    assert (answer.status, answer.json["error"]["message"]) == (422, "outer after inner")
    assert (await client.post("~/items/things", {"name": "excused"})).status == 200
    assert (await client.post("~/items/things", {"name": "value"})).status == 500
    assert [item["name"] for item in (await client.get("~/items/things")).data] == ["excused"]


@ensureDeferred
async def test_plugins_are_enabled_by_project(client: Client, logged: list[str]) -> None:
    class Naming(Plugin):
        def __init__(self, letter: str) -> None:
            self.letter = letter

        @hookimpl
        def item_create(self, payload: dict[str, Any]) -> None:
            payload["name"] += self.letter

    await client.collection("things", field("name"))
    manager = use(client, Naming("b"), Naming("a"), names=("second", "first"))
    created = lambda: client.post("~/items/things", {"name": "-"})  # noqa: E731
    assert (await created()).data["name"] == "-ab"
    set_project(client, '\n[plugins]\ndisabled = ["first"]\n')
    assert (await created()).data["name"] == "-b"
    project = client.backend.projects.get(client.project)
    assert [manager.enabled(name, project) for name in ("first", "second")] == [False, True]
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    path.write_text(path.read_text().replace('disabled = ["first"]', "enabled = []"))
    assert (await created()).data["name"] == "-"
    path.write_text(path.read_text().replace("enabled = []", 'enabled = ["first"]'))
    assert (await created()).data["name"] == "-a"
    assert not [text for text in logged if "which is not loaded" in text]
    path.write_text(path.read_text().replace('["first"]', '["first", "secund"]'))
    assert (await created()).data["name"] == "-a"
    said = f'project {client.project}: its file names the plugin secund, which is not loaded; did you mean "second"?'
    assert said in logged
    for wrong in ("enabled = 1", 'other = ["first"]', "disabled = [1]"):
        path.write_text(path.read_text().partition("[plugins]")[0] + f"[plugins]\n{wrong}\n")
        assert (await created()).status == 503
    path.write_text(path.read_text().partition("[plugins]")[0])


# --- faults


def failing(how: Callable[[], Any]) -> Any:
    class Failing(Plugin):
        @hookimpl
        def item_create(self, payload: dict[str, Any]) -> Any:
            return how()

    return Failing()


async def raise_later() -> None:
    await deferLater(reactor, 0)
    raise KeyError("later")


async def exit_later() -> None:
    await deferLater(reactor, 0)
    raise SystemExit(3)


def leave() -> None:
    raise SystemExit(3)


FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (lambda: 1 / 0, "ZeroDivisionError"),
    "raises later": (raise_later, "KeyError"),
    "a failed Deferred": (lambda: defer.fail(ValueError("failed")), "ValueError"),
    "leaves": (leave, "SystemExit"),
    "leaves later": (exit_later, "SystemExit"),
    "returns": (lambda: {"name": "b"}, "a value of the type dict"),
    "returns later": (lambda: defer.succeed([1]), "a value of the type list"),
    "yields": (lambda: (each for each in "ab"), "a value of the type generator"),
}


@ensureDeferred
async def test_a_faulty_filter_fails_the_request_and_is_named(client: Client, logged: list[str]) -> None:
    await client.collection("things", field("name"))
    for fault, (how, reason) in FAULTS.items():
        manager = use(client, failing(how), names=("faulty",))
        before = dict(manager.shown()[0]["hooks"][0])
        logged.clear()
        answer = await client.post("~/items/things", {"name": "a"})
        assert (answer.status, answer.code) == (500, 0), fault
        text = "\n".join(logged)
        assert "the plugin faulty failed in item_create (request " in text, fault
        assert reason in text, fault
        (hook,) = manager.shown()[0]["hooks"]
        assert [hook[name] - before[name] for name in ("calls", "failures")] == [1, 1]
        manager.remove("faulty")
    assert (await client.get("~/items/things")).data == []
    assert (await client.post("~/items/things", {"name": "a"})).status == 200


@ensureDeferred
async def test_a_hook_that_hangs_is_cut_off(client: Client, logged: list[str]) -> None:
    class Hanging(Plugin):
        @hookimpl
        async def item_create(self, ctx: Context, payload: dict[str, Any]) -> None:
            if payload["name"] == "query":
                await ctx.query("SELECT pg_sleep(60)")
            await defer.Deferred()

        @hookimpl
        def item_update(self) -> Any:
            # Never ends, and cannot be cancelled.
            return defer.Deferred(lambda _: None).addErrback(lambda _: defer.Deferred())

        @hookimpl
        def item_delete_after(self) -> Any:
            return defer.Deferred()

    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "a"})
    use(client, Hanging(), names=("hanging",), hook_timeout=0.05)
    for request in (
        client.post("~/items/things", {"name": "b"}),
        client.post("~/items/things", {"name": "query"}),
        client.patch("~/items/things/1", {"name": "c"}),
    ):
        answer = await request
        assert (answer.status, answer.code) == (503, 16)
        assert "hanging" not in answer.json["error"]["message"]
    assert (await client.get("~/items/things")).data == [{"id": 1, "name": "a"}]
    assert (await client.delete("~/items/things/1")).status == 204
    for hook in ("item_create", "item_update", "item_delete_after"):
        text = f"the plugin hanging is cut off: {hook} has not ended within 0.05 s (plugins.hook_timeout)"
        assert text in logged
    database = client.backend.projects.get(client.project).database
    # The connections are free again.
    assert await Session(database).query("SELECT 1") == [(1,)]


@ensureDeferred
async def test_a_slow_hook_is_named(client: Client, logged: list[str]) -> None:
    class Slow(Plugin):
        @hookimpl
        async def item_create(self, payload: dict[str, Any]) -> None:
            await deferLater(reactor, 0.02)

    await client.collection("things", field("name"))
    manager = use(client, Slow(), names=("slow",), slow_hook=0.01)
    assert (await client.post("~/items/things", {"name": "a"})).status == 200
    assert [text for text in logged if text.startswith("the plugin slow took 0.") and "in item_create" in text]
    (hook,) = manager.shown()[0]["hooks"]
    assert hook["hook"] == "item_create"
    assert hook["mean_ms"] >= 20
    assert hook["p99_ms"] >= 20
    assert json.dumps(manager.shown())
    assert TOKEN
