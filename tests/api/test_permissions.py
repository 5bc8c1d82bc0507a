"""Permissions beyond the contract: why somebody may do something, and roles as a document."""

from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor, task
from twisted.internet.endpoints import serverFromString

from directus_tx.config import Settings
from directus_tx.db.session import Session
from directus_tx.http.app import App
from directus_tx.http.routes import Services
from directus_tx.items.batches import BATCH
from directus_tx.service import ServerBackend
from tests.conftest import Client, field

STATUSES = {"status_mapping": {"open": {"name": "Open"}, "done": {"name": "Done"}, "gone": {"name": "Gone", "soft_delete": True}}}


async def team(client: Client) -> int:
    """A collection of tasks, a role with rights on some of them, and two users of it, 2 and 3. Gives the role."""
    status = field("status", "status", length=20, default_value="open", options=STATUSES)
    await client.collection("tasks", status, field("title"), field("secret"), field("owner", "owner", "INT", 11))
    role = (await client.post("~/roles", {"name": "Writers", "description": "They write"})).data["id"]
    for name in ("wanda", "walt"):
        user = {"email": f"{name}@example.com", "password": "password", "role": role, "status": "active", "token": name}
        assert (await client.post("~/users", user)).status == 200
    rows = [
        {"collection": "tasks", "role": role, "status": "open", "create": "full", "read": "mine", "update": "mine"},
        {"collection": "tasks", "role": role, "status": "done", "read": "role", "read_field_blacklist": ["secret"]},
    ]
    assert (await client.post("~/permissions", rows)).status == 200
    for token in ("wanda", "walt"):
        await client.post("~/items/tasks", {"title": token, "secret": "s"}, token=token)
    await client.post("~/items/tasks", [{"title": "admin's"}, {"title": "finished", "status": "done"}])
    await client.patch("~/items/tasks/2", {"status": "done"})
    return int(role)


async def explained(client: Client, **asked: Any) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    answer = await client.get(f"~/permissions/explain?{query}")
    assert answer.status == 200, answer.body
    return dict(answer.data)


@ensureDeferred
async def test_an_explanation_agrees_with_what_happens(client: Client) -> None:
    role = await team(client)
    for user, token in ((2, "wanda"), (3, "walt"), (1, None)):
        for item in (1, 2, 3, 4):
            options = {} if token is None else {"token": token}
            for action in ("read", "update", "delete"):
                told = await explained(client, collection="tasks", action=action, item=item, user=user)
                if action == "read":
                    done = await client.get(f"~/items/tasks/{item}", **options)
                elif action == "update":
                    done = await client.patch(f"~/items/tasks/{item}", {"title": "x"}, **options)
                else:
                    continue
                assert told["allowed"] == (done.status == 200), (user, item, action, told, done.body)
                assert told["role"] == (1 if user == 1 else role)
                if action == "read" and done.status == 200 and user != 1:
                    assert ("secret" in told["hidden"]) == ("secret" not in done.data)
    told = await explained(client, collection="tasks", action="read", item=2, user=2)
    assert told["status"] == "done"
    assert told["owner"] == 3
    assert [(row["status"], row["counts"]) for row in told["permissions"]] == [("open", False), ("done", True)]
    assert "role" in told["reason"]
    assert '"t"."owner"' in told["condition"]
    assert told["condition"].count("%s") == len(told["parameters"])


@ensureDeferred
async def test_explanations_of_the_public_and_of_what_is_not_there(client: Client) -> None:
    await team(client)
    told = await explained(client, collection="tasks", action="read")
    assert (told["allowed"], told["role"], told["user"]) == (False, 2, None)
    assert (await explained(client, collection="tasks", action="create", user=2))["allowed"] is True
    assert (await explained(client, collection="tasks", action="create", user=2))["status"] == "open"
    for wrong, status in (
        ("collection=tasks&action=eat", 422),
        ("collection=tasks", 422),
        ("collection=none&action=read", 404),
        ("collection=tasks&action=read&item=99&user=2", 404),
        ("collection=tasks&action=read&user=99", 404),
    ):
        assert (await client.get(f"~/permissions/explain?{wrong}")).status == status
    refused = await client.get("~/permissions/explain?collection=tasks&action=read", token="wanda")
    assert (refused.status, refused.code) == (403, 300)
    assert (await client.get("~/permissions/explain?collection=tasks&action=read", token=None)).status == 401


@ensureDeferred
async def test_an_export_is_imported_elsewhere_and_again_without_a_change(client: Client) -> None:
    writers_id = await team(client)
    document = (await client.get("~/permissions/export")).data
    writers = next(each for each in document["roles"] if each["name"] == "Writers")
    assert writers["description"] == "They write"
    assert {"collection": "tasks", "status": "done", "read": "role", "read_field_blacklist": ["secret"]} in writers["permissions"]
    again = await client.post("~/permissions/import", document)
    assert again.data == {"dry_run": False, "changes": []}

    writers["permissions"] = [each for each in writers["permissions"] if each.get("status") != "open"]
    writers["permissions"].append({"collection": "notes", "read": "full"})
    next(each for each in writers["permissions"] if each.get("status") == "done")["read"] = "full"
    writers["description"] = "They wrote"
    document["roles"].append({"name": "Readers", "permissions": [{"collection": "tasks", "read": "full"}]})
    planned = await client.post("~/permissions/import?dry_run=1", document)
    kinds = [(each["action"], each["role"], each.get("collection"), each.get("status")) for each in planned.data["changes"]]
    assert kinds == [
        ("update", "Writers", None, None),
        ("update", "Writers", "tasks", "done"),
        ("create", "Writers", "notes", None),
        ("delete", "Writers", "tasks", "open"),
        ("create", "Readers", None, None),
        ("create", "Readers", "tasks", None),
    ]
    assert (await client.get("~/permissions/export")).data != document
    done = await client.post("~/permissions/import", document)
    assert done.data["changes"] == planned.data["changes"]
    for role in document["roles"]:
        role["permissions"].sort(key=lambda each: (each["collection"], each.get("status") or ""))
    document["roles"].sort(key=lambda each: each["name"])
    assert (await client.get("~/permissions/export")).data == document
    assert (await client.post("~/permissions/import", document)).data["changes"] == []
    readers = (await client.get("~/roles?filter[name]=Readers&single=1")).data["id"]
    rows = (await client.get(f"~/permissions?filter[role]={readers}&fields=collection,read,update")).data
    assert rows == [{"collection": "tasks", "read": "full", "update": "none"}]
    assert (await client.get(f"~/activity?filter[collection]=directus_roles&filter[item]={writers_id}&fields=action")).data[
        -1
    ] == {"action": "update"}


@ensureDeferred
async def test_several_permissions_of_one_collection_and_status_are_exported_and_imported(client: Client) -> None:
    """Whatever rows there are: an import changes nothing, and makes the same rows elsewhere in the same order."""
    role = await team(client)
    for read, status in (("none", None), ("full", None), ("none", None), ("mine", "open"), ("full", "open"), ("mine", "")):
        row = {"collection": "tasks", "role": role, "status": status, "read": read}
        assert (await client.post("~/permissions", row)).status == 200
    # Another program has written levels that do not exist and none at all.
    sql = (
        'INSERT INTO directus_permissions (collection, role, "read", comment)'
        " VALUES ('notes', %s, 'all', NULL), ('notes', %s, NULL, 'rarely')"
    )
    await Session(client.backend.projects.get(client.project).database).query(sql, (role, role))
    document = (await client.get("~/permissions/export")).data
    assert (await client.post("~/permissions/import", document)).data["changes"] == []
    writers = next(each for each in document["roles"] if each["name"] == "Writers")
    document["roles"].append({**writers, "name": "Copy"})
    assert (await client.post("~/permissions/import", document)).status == 200
    assert (await client.post("~/permissions/import", document)).data["changes"] == []
    exported = (await client.get("~/permissions/export")).data["roles"]
    copies = [next(each["permissions"] for each in exported if each["name"] == name) for name in ("Writers", "Copy")]
    assert copies[0] == copies[1]
    # Leaving out one of the equal rows deletes one row.
    writers["permissions"].remove({"collection": "tasks", "read": "full"})
    done = (await client.post("~/permissions/import", {"roles": [writers]})).data["changes"]
    assert done[-1]["action"] == "delete"
    assert (await client.post("~/permissions/import", {"roles": [writers]})).data["changes"] == []


@ensureDeferred
async def test_a_document_that_is_wrong_changes_nothing_and_says_where(client: Client) -> None:
    await team(client)
    before = (await client.get("~/permissions/export")).data
    for document, text in (
        ({}, "roles"),
        ({"roles": [{"permissions": []}]}, "roles[0]"),
        ({"roles": [{"name": "A", "colour": "red"}]}, "colour"),
        ({"roles": [{"name": "A"}, {"name": "a"}]}, "twice"),
        ({"roles": [{"name": "A", "permissions": [{"collection": "x"}, {"read": "full"}]}]}, "roles[0].permissions[1]"),
        ({"roles": [{"name": "A", "permissions": [{"collection": "x", "status": ["y"]}]}]}, "status"),
        ({"roles": [{"name": "A", "permissions": [{"collection": "x", "create": "mine"}]}]}, "create"),
        ({"roles": [{"name": "A", "permissions": [{"collection": "x", "reed": "full"}]}]}, "reed"),
        ({"roles": [{"name": "Administrator", "permissions": []}]}, "Administrator"),
        ({"roles": [{"name": "A", "permissions": [{"collection": "x", "read_field_blacklist": "a"}]}]}, "read_field_blacklist"),
    ):
        refused = await client.post("~/permissions/import", document)
        assert refused.status == 422, document
        assert text in refused.json["error"]["message"]
    assert (await client.get("~/permissions/export")).data == before
    assert (await client.post("~/permissions/import", before, token="wanda")).status == 403


@ensureDeferred
async def test_nobody_but_administrators_gains_rights_through_levels_alone(client: Client) -> None:
    """Even a role with every level on every system collection makes nobody an administrator."""
    role = await team(client)
    systems = ["users", "roles", "permissions", "relations", "fields", "collections", "settings", "activity", "revisions"]
    full = {"create": "full", "read": "full", "update": "full", "delete": "full", "comment": "full"}
    for name in systems:
        stale = (await client.get(f"~/permissions?filter[role]={role}&filter[collection]=directus_{name}&fields=id")).data
        for row in stale:
            await client.delete(f"~/permissions/{row['id']}")
        await client.post("~/permissions", {"collection": f"directus_{name}", "role": role, **full})
    other = (await client.post("~/permissions", {"collection": "tasks", "role": 2})).data["id"]
    me, admin = "~/users/2", "~/users/1"
    attempts = [
        ("PATCH", me, {"role": 1}),
        ("PATCH", admin, {"title": "x"}),
        ("PATCH", admin, {"token": "stolen"}),
        ("DELETE", admin, None),
        ("PATCH", "~/users/3", {"password": "stolen"}),
        ("PATCH", "~/users/3", {"token": "stolen"}),
        ("POST", "~/users", {"email": "x@example.com", "role": 1, "status": "active"}),
        ("PATCH", "~/roles/1", {"name": "Mine"}),
        ("DELETE", "~/roles/1", None),
        ("PATCH", "~/roles/1", {"users": [{"id": 2}]}),
        ("POST", "~/permissions", {"collection": "tasks", "role": role, "delete": "full"}),
        ("POST", "~/relations", {"collection_many": "tasks", "field_many": "owner", "collection_one": "directus_users"}),
        ("POST", "~/fields/tasks", field("more")),
        ("DELETE", "~/collections/tasks", None),
        ("PATCH", f"~/permissions/{other}", {"read": "full"}),
    ]
    before = (await client.get("~/users?fields=id,role,token,status,title")).data
    for method, path, body in attempts:
        answer = await client.call(method, path, ... if body is None else body, token="wanda")
        assert answer.status in (401, 403), (method, path, body, answer.body)
    assert (await client.get("~/users?fields=id,role,token,status,title")).data == before
    assert (await client.get("~/users/3?fields=title", token="wanda")).status == 200
    assert (await client.patch("~/users/3", {"title": "Colleague"}, token="wanda")).status == 200


@ensureDeferred
async def test_a_change_of_permissions_reaches_another_process_of_the_same_database(client: Client, settings: Settings) -> None:
    role = await team(client)
    other = ServerBackend(settings, reactor)
    await other.open()
    app = App(
        reactor,
        Services(
            other.projects,
            other.items,
            other.hasher,
            settings,
            sign_on=other.sign_on,
            intake=other.intake,
            thumbnails=other.thumbnails,
        ),
    )
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(app.site)
    second = Client(other, app, port.getHost().port)
    second.project = client.project
    try:
        assert len((await second.get("~/items/tasks", token="wanda")).data) == 2
        rows = (await client.get(f"~/permissions?filter[role]={role}&filter[collection]=tasks&fields=id")).data
        for row in rows:
            await client.delete(f"~/permissions/{row['id']}")
        # The notice is on its way: PostgreSQL sends it when the change is committed.
        for _ in range(100):
            answer = await second.get("~/items/tasks", token="wanda")
            if answer.status == 403:
                break
            await task.deferLater(reactor, 0.01, lambda: None)
        assert (answer.status, answer.code) == (403, 300)
        await client.patch("~/users/2", {"status": "suspended"})
        for _ in range(100):
            answer = await second.get("~/users/me", token="wanda")
            if answer.status == 401:
                break
            await task.deferLater(reactor, 0.01, lambda: None)
        assert answer.status == 401
    finally:
        await second.pool.closeCachedConnections()
        await defer.maybeDeferred(port.stopListening)
        await other.close()


@ensureDeferred
async def test_a_status_may_be_a_number(client: Client) -> None:
    mapping = {"status_mapping": {"0": {"name": "Gone", "soft_delete": True}, "1": {"name": "Open"}, "2": {"name": "Done"}}}
    await client.collection("tasks", field("state", "status", "INT", 11, default_value="1", options=mapping), field("title"))
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    rows = [
        {"collection": "tasks", "role": role, "status": "1", "read": "full", "create": "full", "update": "full"},
        {"collection": "tasks", "role": role, "status": "2", "read": "full", "read_field_blacklist": ["title"]},
    ]
    await client.post("~/permissions", rows)
    await client.post("~/items/tasks", [{"title": "a"}, {"title": "b", "state": 2}, {"title": "c", "state": 0}])
    seen = await client.get("~/items/tasks?fields=id,title,state", token="writer")
    assert [(item["id"], item.get("title")) for item in seen.data] == [(1, "a"), (2, None)]
    assert (await client.patch("~/items/tasks/2", {"title": "x"}, token="writer")).code == 302
    assert (await client.patch("~/items/tasks/1", {"state": 0}, token="writer")).code == 303
    assert (await client.patch("~/items/tasks/1", {"state": 2}, token="writer")).status == 200
    assert (await client.get("~/items/tasks?status=*&fields=id&meta=status_count")).json["meta"] == {
        "status_count": {"0": 1, "1": 0, "2": 2}
    }


@ensureDeferred
async def test_an_item_that_shows_nothing_is_an_empty_list_wherever_it_stands(client: Client) -> None:
    mapping = {"status_mapping": {"open": {"name": "Open"}, "done": {"name": "Done"}}}
    status = field("status", "status", length=20, default_value="open", options=mapping)
    await client.collection("topics", status, field("name"), {"field": "notes", "type": "o2m", "interface": "one-to-many"})
    await client.collection("notes", field("text"), field("topic", "m2o", "INT", 11))
    relation = {"collection_many": "notes", "field_many": "topic", "collection_one": "topics", "field_one": "notes"}
    await client.post("~/relations", relation)
    await client.post("~/items/topics", [{"name": "a"}, {"name": "b", "status": "done"}])
    await client.post("~/items/notes", [{"text": "x", "topic": 1}, {"text": "y", "topic": 2}, {"text": "z"}])
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    rows = [
        {"collection": "topics", "status": "open", "read": "full"},
        {"collection": "topics", "status": "done", "read": "full", "read_field_blacklist": ["name", "notes"]},
        {"collection": "notes", "read": "full"},
    ]
    await client.post("~/permissions", [{"role": role, **row} for row in rows])
    for path, data in (
        ("topics?fields=name", [{"name": "a"}, []]),
        ("topics?fields=notes.text", [{"notes": [{"text": "x"}]}, []]),
        ("topics/2?fields=name", []),
        ("notes?fields=topic.name", [{"topic": {"name": "a"}}, {"topic": []}, {"topic": None}]),
        ("notes?fields=topic.notes.text", [{"topic": {"notes": [{"text": "x"}]}}, {"topic": []}, {"topic": None}]),
        ("topics?fields=notes.topic.name", [{"notes": [{"topic": {"name": "a"}}]}, []]),
    ):
        assert (await client.get(f"~/items/{path}", token="writer")).data == data, path


@ensureDeferred
async def test_a_long_list_that_is_streamed_warns_of_what_may_not_be_read_too(client: Client) -> None:
    await client.collection("topics", field("name"))
    await client.collection("notes", field("text"), field("topic", "m2o", "INT", 11))
    relation = {"collection_many": "notes", "field_many": "topic", "collection_one": "topics", "field_one": None}
    await client.post("~/relations", relation)
    await client.post("~/items/notes?activity_skip=1&fields=id", [{"text": "x", "topic": 1}] * (BATCH + 1))
    await client.post("~/permissions", {"role": 2, "collection": "notes", "read": "full"})
    short = await client.get("~/items/notes?limit=1&fields=topic.name", token=None)
    long = await client.get("~/items/notes?limit=-1&fields=topic.name", token=None)
    assert short.json["messages"][0]["fields"] == ["topic"]
    assert long.json["messages"] == short.json["messages"]
    assert long.data == [{"topic": {"id": 1}}] * (BATCH + 1)
    assert long.json["public"] is True
