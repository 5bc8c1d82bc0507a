"""What a role may not know of is absent, wherever the system tells of it: the schema, the history, comments, messages."""

import json
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import KEY, Client, field

NUMBER = {"type": "integer", "datatype": "INT", "length": 11}
SECRETS = ("vault", "combination", "trapdoor", "hatch", "alpha-one", "smuggled")
"""Names and values that the role of `team` may not know of."""


async def team(client: Client, **activity: str) -> dict[str, int]:
    """Notes with a hidden field and a relation into a collection that may not be read; a role that reads notes, all of the activity and
    of the schema; two users of it, wanda and walt. Gives the ids of what was made."""
    await client.collection("vault", field("combination"), field("trapdoor"))
    status = {"status_mapping": {"open": {"name": "Open"}, "closed": {"name": "Closed"}}}
    await client.collection(
        "notes",
        field("status", "status", length=20, default_value="open", options=status),
        field("title"),
        field("hatch"),
        field("safe", "m2o", "INT", 11),
        field("owner", "owner", "INT", 11),
        field("replies", "o2m"),
    )
    await client.collection("replies", field("text"), field("note", "m2o", "INT", 11), field("place", "m2o", "INT", 11))
    relations = [
        {"collection_many": "notes", "field_many": "safe", "collection_one": "vault"},
        {"collection_many": "replies", "field_many": "note", "collection_one": "notes", "field_one": "replies"},
        {"collection_many": "notes", "field_many": "hatch", "collection_one": "replies"},
        {"collection_many": "replies", "field_many": "place", "collection_one": "notes", "junction_field": "text"},
    ]
    made = [each["id"] for each in (await client.post("~/relations", relations)).data]
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    for name in ("wanda", "walt"):
        user = {"email": f"{name}@example.com", "password": "password", "role": role, "status": "active", "token": name}
        assert (await client.post("~/users", user)).status == 200
    await client.post("~/items/vault", {"combination": "alpha-one"})
    for token in (None, "wanda", "walt"):
        options = {"token": token} if token else {}
        if token == "wanda":
            rows = [
                {"status": "open", "create": "full", "read": "full", "update": "full", "comment": "full"},
                {"status": "closed", "read": "mine"},
            ]
            rows = [{"collection": "notes", "role": role, "read_field_blacklist": ["hatch"], **row} for row in rows]
            rows.append({"collection": "replies", "role": role, "read": "full", "create": "full", "update": "full"})
            assert (await client.post("~/permissions", rows)).status == 200
        note = {"title": f"note of {token}", "hatch": "smuggled", "safe": 1}
        assert (await client.post("~/items/notes", note, **options)).status == 200
    found = (await client.get(f"~/permissions?filter[role]={role}&filter[collection]=directus_activity")).data
    await client.patch(f"~/permissions/{found[0]['id']}", {"read": "full"} | activity)
    return {"role": role, "activity": found[0]["id"], **dict(zip(("safe", "note", "hatch", "junction"), made, strict=True))}


def names(answer: Any, *fields: str) -> list[Any]:
    return [tuple(row[name] for name in fields) for row in answer.data]


def assert_silent(path: str, body: bytes) -> None:
    """The body names nothing that the role may not know of."""
    text = body.decode()
    assert [word for word in SECRETS if word in text.lower()] == [], (path, text)


LISTS = [
    "activity",
    # The permissions of the own role are no secret, and they name what they hide.
    "revisions?filter[collection][neq]=directus_permissions",
    "relations",
    "collections",
    "fields",
    "fields/notes",
    "collection_presets",
    "items/notes",
    "items/replies",
    "settings",
    "settings/fields",
    "users",
    "roles",
    "folders",
    "files",
]


@ensureDeferred
async def test_no_list_names_what_the_role_may_not_know_of(client: Client) -> None:
    await team(client)
    await client.post("~/collection_presets", {"collection": "vault", "title": "for all", "filters": [{"field": "trapdoor"}]})
    await client.patch("~/items/vault/1", {"combination": "alpha-one!"})
    await client.post("~/activity/comment", {"collection": "vault", "item": "1", "comment": "smuggled"})
    await client.patch("~/fields/notes/hatch", {"note": "the hatch"})
    await client.post("~/collections", {"collection": "vault_two", "fields": [KEY]})
    await client.delete("~/collections/vault_two")
    for path in LISTS:
        for query in ("limit=-1", "limit=-1&meta=*", "limit=-1&fields=*.*", "limit=-1&q=vault", "export=csv&limit=-1"):
            answer = await client.get(f"~/{path}{'&' if '?' in path else '?'}{query}", token="wanda")
            assert answer.status == 200, (path, query, answer.body)
            assert_silent(f"{path} {query}", answer.body)
    document = await client.get("~/specs/oas", token="wanda")
    assert_silent("specs/oas", document.body)


@ensureDeferred
async def test_no_question_finds_what_the_role_may_not_know_of(client: Client) -> None:
    await team(client)
    asked = [
        ("activity", "filter[collection]=vault"),
        ("activity", "filter[item]=vault"),
        ("activity", "filter[collection][contains]=vau"),
        ("revisions", "filter[collection]=vault"),
        ("revisions", "filter[data][contains]=combination"),
        ("revisions", "filter[delta][contains]=smuggled"),
        ("revisions", "filter[data][rlike]=%25vault%25"),
        ("revisions", "q=hatch&filter[collection][neq]=directus_permissions"),
        ("relations", "filter[collection_one]=vault"),
        ("relations", "filter[field_many]=hatch"),
        ("relations", "filter[field_many]=safe"),
        ("collection_presets", "filter[collection]=vault"),
    ]
    await client.post("~/collection_presets", {"collection": "vault", "title": "for all"})
    for path, query in asked:
        answer = await client.get(f"~/{path}?{query}&meta=filter_count,result_count", token="wanda")
        assert (answer.data, answer.json["meta"]) == ([], {"filter_count": 0, "result_count": 0}), (path, query)
        counted = await client.get(f"~/{path}?{query}&aggregate[count]=*", token="wanda")
        assert counted.data == [{"count": {"*": 0}}], (path, query, counted.body)
        assert (await client.get(f"~/{path}?{query}&single=1", token="wanda")).status == 404
    grouped = await client.get("~/activity?aggregate[count]=*&groupby=collection", token="wanda")
    assert "vault" not in grouped.body.decode()


@ensureDeferred
async def test_relations_are_shown_where_both_sides_are(client: Client) -> None:
    made = await team(client)
    answer = await client.get("~/relations?limit=-1&fields=id,collection_many,field_many&sort=id", token="wanda")
    shown = [row["id"] for row in answer.data]
    assert made["note"] in shown
    assert made["junction"] in shown
    assert not {made["safe"], made["hatch"]} & set(shown)
    for key in (made["safe"], made["hatch"]):
        assert (await client.get(f"~/relations/{key}", token="wanda")).status == 404
    assert (await client.get(f"~/relations/{made['note']},{made['safe']}?fields=id", token="wanda")).data == [
        {"id": made["note"]}
    ]
    system = {row["collection_many"] for row in answer.data if row["collection_many"].startswith("directus_")}
    assert "directus_users" in system
    assert "directus_collections_presets" not in system
    everything = (await client.get("~/relations?limit=-1&fields=id")).data
    assert {made["safe"], made["hatch"]} <= {row["id"] for row in everything}
    await client.post("~/permissions", {"collection": "vault", "role": made["role"], "read": "full"})
    assert (await client.get(f"~/relations/{made['safe']}", token="wanda")).status == 200


@ensureDeferred
async def test_a_hidden_junction_field_hides_its_relation(client: Client) -> None:
    made = await team(client)
    (row,) = (await client.get(f"~/permissions?filter[role]={made['role']}&filter[collection]=replies")).data
    assert (await client.get(f"~/relations/{made['junction']}", token="wanda")).status == 200
    await client.patch(f"~/permissions/{row['id']}", {"read_field_blacklist": ["text"]})
    assert (await client.get(f"~/relations/{made['junction']}", token="wanda")).status == 404


@ensureDeferred
async def test_activity_of_others_is_shown_where_their_items_may_be_read(client: Client) -> None:
    await team(client)
    shown = await client.get("~/activity?filter[collection]=notes&fields=action_by,item&sort=id", token="wanda")
    assert names(shown, "action_by", "item") == [(1, "1"), (2, "2"), (3, "3")]
    # What is closed is read by its owner alone; what one has done oneself stays one's own.
    await client.patch("~/items/notes/1,2,3", {"status": "closed"})
    shown = await client.get("~/activity?filter[collection]=notes&fields=action_by,item&sort=id", token="wanda")
    assert names(shown, "action_by", "item") == [(2, "2"), (1, "2")]
    await client.patch("~/items/notes/2", {"owner": 3})
    shown = await client.get("~/activity?filter[collection]=notes&fields=action_by,item&sort=id", token="wanda")
    assert names(shown, "action_by", "item") == [(2, "2")]
    await client.delete("~/items/notes/2,3")
    shown = await client.get("~/activity?filter[collection]=notes&fields=action_by,item&sort=id", token="wanda")
    assert names(shown, "action_by", "item") == [(2, "2")]
    # Where a whole collection may be read, what is gone could be read.
    reply = await client.post("~/items/replies", {"text": "hello"})
    await client.delete(f"~/items/replies/{reply.data['id']}")
    shown = await client.get("~/activity?filter[collection]=replies&fields=action&sort=id", token="wanda")
    assert names(shown, "action") == [("create",), ("delete",)]


@ensureDeferred
async def test_activity_of_the_schema_is_shown_as_far_as_the_schema(client: Client) -> None:
    await team(client)
    fields = {row["id"]: row for row in (await client.get("~/fields?limit=-1")).data}
    seen = {row["id"] for row in (await client.get("~/fields?limit=-1", token="wanda")).data}
    told = await client.get("~/activity?filter[collection]=directus_fields&fields=item&limit=-1", token="wanda")
    assert {int(item) for (item,) in names(told, "item")} <= seen
    assert any(fields[int(item)]["field"] == "title" for (item,) in names(told, "item"))
    told = await client.get("~/activity?filter[collection]=directus_collections&fields=item&limit=-1", token="wanda")
    assert sorted(names(told, "item")) == [("notes",), ("replies",)]
    shown = await client.get("~/revisions?filter[collection]=directus_fields&fields=item,data&limit=-1", token="wanda")
    assert {row["data"]["field"] for row in shown.data} == {
        "id",
        "status",
        "title",
        "safe",
        "owner",
        "replies",
        "text",
        "note",
        "place",
    }
    own = {row["id"] for row in (await client.get("~/permissions?limit=-1", token="wanda")).data}
    told = await client.get("~/revisions?filter[collection]=directus_permissions&fields=item&limit=-1", token="wanda")
    assert told.data
    assert {int(item) for (item,) in names(told, "item")} <= own


@ensureDeferred
async def test_a_revision_names_its_parent_where_that_may_be_read(client: Client) -> None:
    made = await team(client)
    await client.collection("binders", field("name"), field("notes", "o2m"))
    await client.post("~/fields/notes", field("binder", "m2o", "INT", 11))
    relation = {"collection_many": "notes", "field_many": "binder", "collection_one": "binders", "field_one": "notes"}
    await client.post("~/relations", relation)
    await client.post("~/items/binders", {"name": "b"})
    await client.patch("~/items/binders/1", {"notes": [{"title": "bound"}]})
    await client.post("~/items/binders", {"name": "c", "notes": [{"title": "born bound"}]})
    path = "~/revisions?filter[collection]=notes&sort=-id&limit=2&fields=parent_collection,parent_item,parent_changed"
    parents = ("parent_collection", "parent_item", "parent_changed")
    assert names(await client.get(path), *parents) == [("binders", None, True), ("binders", "1", True)]
    assert names(await client.get(path, token="wanda"), *parents) == [(None, None, False)] * 2
    asked = await client.get(f"{path}&filter[parent_collection]=binders", token="wanda")
    assert asked.data == []
    permission = {"collection": "binders", "role": made["role"], "read": "full"}
    await client.post("~/permissions", permission)
    assert names(await client.get(path, token="wanda"), *parents) == [("binders", None, True), ("binders", "1", True)]


@ensureDeferred
async def test_a_hidden_field_that_is_gone_stays_hidden_in_revisions(client: Client) -> None:
    await team(client)
    await client.delete("~/fields/notes/hatch")
    answer = await client.get("~/revisions?filter[collection]=notes&limit=-1", token="wanda")
    assert answer.data
    assert_silent("revisions", answer.body)


@ensureDeferred
async def test_a_change_of_anothers_comment_shows_no_more_than_reading(client: Client) -> None:
    made = await team(client, read="mine")
    comment = {"collection": "notes", "item": "1", "comment": "by walt"}
    written = await client.post("~/activity/comment", comment, token="walt", headers={"User-Agent": "walts-machine"})
    assert written.data["user_agent"] == "walts-machine"
    key = written.data["id"]
    changed = await client.patch(f"~/activity/comment/{key}", {"comment": "moderated"}, token="wanda")
    assert changed.status == 200
    assert (changed.data["comment"], changed.data["action_by"], changed.data["action"]) == ("moderated", 3, "comment")
    assert not {"ip", "user_agent"} & changed.data.keys()
    assert b"walts-machine" not in changed.body
    await client.patch(f"~/permissions/{made['activity']}", {"read": "full", "read_field_blacklist": ["user_agent", "edited_on"]})
    changed = await client.patch(f"~/activity/comment/{key}?meta=*", {"comment": "again"}, token="wanda")
    assert changed.data == (await client.get(f"~/activity/{key}", token="wanda")).data
    assert not {"user_agent", "edited_on"} & changed.data.keys()
    await client.patch(f"~/permissions/{made['activity']}", {"read": "none"})
    unseen = await client.patch(f"~/activity/comment/{key}", {"comment": "unseen"}, token="wanda")
    assert (unseen.status, unseen.body) == (204, b"")


@ensureDeferred
async def test_comments_on_items_out_of_sight_do_not_exist(client: Client) -> None:
    await team(client)
    missing = [
        await client.patch("~/activity/comment/99999", {"comment": "x"}, token="wanda"),
        await client.delete("~/activity/comment/99999", token="wanda"),
    ]
    assert [(each.status, each.code) for each in missing] == [(404, 203)] * 2
    hidden = await client.post("~/activity/comment", {"collection": "vault", "item": "1", "comment": "x"})
    await client.patch("~/items/notes/3", {"status": "closed"})
    closed = await client.post("~/activity/comment", {"collection": "notes", "item": "3", "comment": "x"})
    for key in (hidden.data["id"], closed.data["id"]):
        told = [
            await client.patch(f"~/activity/comment/{key}", {"comment": "x"}, token="wanda"),
            await client.delete(f"~/activity/comment/{key}", token="wanda"),
        ]
        assert [each.body for each in told] == [each.body for each in missing]
        public = await client.patch(f"~/activity/comment/{key}", {"comment": "x"}, token=None)
        assert public.body == (await client.patch("~/activity/comment/99999", {"comment": "x"}, token=None)).body


@ensureDeferred
async def test_a_record_of_ones_own_does_not_tell_where_an_administrator_was(client: Client) -> None:
    await team(client, read="mine")
    headers = {"User-Agent": "administrators-machine"}
    assert (await client.patch("~/users/2", {"status": "suspended"}, headers=headers)).status == 200
    await client.patch("~/users/2", {"status": "active"}, headers=headers)
    told = await client.get("~/activity?filter[action]=status-update", token="wanda")
    assert names(told, "action_by", "ip", "user_agent") == [(2, "", "")] * 2
    records = await client.get("~/activity?filter[action]=update&filter[collection]=directus_users")
    assert {agent for (agent,) in names(records, "user_agent")} == {"administrators-machine"}


@ensureDeferred
async def test_a_setting_that_is_a_secret_is_shown_to_those_who_may_change_settings(client: Client) -> None:
    made = await team(client)
    (row,) = (await client.get("~/settings?filter[key]=youtube_api_key&fields=id")).data
    await client.patch(f"~/settings/{row['id']}", {"value": "alpha-one"})
    asked = [
        "settings?limit=-1",
        "settings?filter[value][contains]=alpha&meta=filter_count",
        "settings?q=alpha",
        "settings?aggregate[count]=*&groupby=value",
        "revisions?filter[collection]=directus_settings&limit=-1",
        "activity?filter[collection]=directus_settings",
    ]
    for path in asked:
        answer = await client.get(f"~/{path}", token="wanda")
        assert answer.status == 200
        assert_silent(path, answer.body)
    assert (await client.get(f"~/settings/{row['id']}", token="wanda")).status == 404
    assert (await client.get("~/settings?filter[key]=project_name", token="wanda")).data != []
    found = (await client.get(f"~/permissions?filter[role]={made['role']}&filter[collection]=directus_settings")).data
    await client.patch(f"~/permissions/{found[0]['id']}", {"update": "full"})
    assert (await client.get(f"~/settings/{row['id']}", token="wanda")).data["value"] == "alpha-one"


ERRORS: list[tuple[str, str, Any]] = [
    ("GET", "items/notes?filter[safe.combination]=1", None),
    ("GET", "items/notes?filter[safe][contains]=1", None),
    ("GET", "items/notes?filter[hidden_list.id]=1", None),
    ("GET", "items/notes?filter[hidden_list][has]=1", None),
    ("GET", "items/notes?fields=safe.*,hidden_list.*", None),
    ("PATCH", "items/notes/1", {"safe": {"nothing": 1}}),
    ("PATCH", "items/notes/1", {"safe": {"id": 1, "nothing": 1}}),
    ("PATCH", "items/notes/1", {"safe": {"id": 99}}),
    ("PATCH", "items/notes/1", {"safe": {"id": "x"}}),
    ("PATCH", "items/notes/1", {"safe": {"id": 1, "$delete": True}}),
    ("PATCH", "items/notes/1", {"safe": {"id": 99, "$delete": True}}),
    ("PATCH", "items/notes/1", {"hidden_list": [{"x": 1}]}),
    ("PATCH", "items/notes/1", {"hidden_list": [{"id": 1}]}),
    ("PATCH", "items/notes/1", {"hidden_list": [{"id": "x"}]}),
    ("PATCH", "items/notes/1", {"hidden_list": [{"id": 1, "$delete": True}]}),
    ("POST", "items/notes", {"title": "x", "safe": {"nothing": 1}}),
    ("POST", "items/notes", {"title": "x", "hidden_list": [{"nothing": 1}]}),
]


@ensureDeferred
async def test_no_message_names_a_collection_that_may_not_be_read(client: Client) -> None:
    await team(client)
    await client.post("~/fields/notes", {"field": "hidden_list", "type": "o2m", "interface": "one-to-many"})
    await client.post("~/fields/vault", field("trap", "m2o", "INT", 11))
    relation = {"collection_many": "vault", "field_many": "trap", "collection_one": "notes", "field_one": "hidden_list"}
    await client.post("~/relations", relation)
    for method, path, body in ERRORS:
        answer = await client.call(method, f"~/{path}", *([] if body is None else [body]), token="wanda")
        assert answer.status in (200, 403, 404, 422), (method, path, body, answer.body)
        if path != "items/notes?fields=safe.*,hidden_list.*":
            assert answer.status != 200, (method, path, body)
        assert_silent(f"{method} {path} {json.dumps(body)}", answer.body)


@ensureDeferred
async def test_attributes_of_the_schema_that_are_hidden_are_not_shown(client: Client) -> None:
    made = await team(client)
    for name, hidden in (("directus_fields", ["note", "options"]), ("directus_collections", ["icon"])):
        (row,) = (await client.get(f"~/permissions?filter[role]={made['role']}&filter[collection]={name}")).data
        await client.patch(f"~/permissions/{row['id']}", {"read_field_blacklist": hidden})
    for path in ("fields", "fields/notes", "fields/notes/title"):
        found = (await client.get(f"~/{path}", token="wanda")).data
        for item in found if isinstance(found, list) else [found]:
            assert not {"note", "options"} & item.keys()
            assert item["field"]
    for item in (await client.get("~/collections", token="wanda")).data:
        assert "icon" not in item
        assert all("note" not in each for each in item["fields"].values())
    for name, code in (("note", 403), ("type", 200)):
        assert (await client.get(f"~/fields?sort={name}", token="wanda")).status == code


@pytest.mark.parametrize("collection", ["directus_activity", "directus_collections", "directus_fields", "directus_relations"])
@ensureDeferred
async def test_no_relation_leads_to_the_servers_own_collections(client: Client, collection: str) -> None:
    await client.collection("cards", field("about", "m2o", "INT", 11), field("all_of_them", "o2m"))
    good = (await client.post("~/relations", {"collection_many": "cards", "field_many": "about", "collection_one": "cards"})).data
    up = {"collection_many": "cards", "field_many": "about", "collection_one": collection}
    down = {"collection_many": collection, "field_many": "id", "collection_one": "cards", "field_one": "all_of_them"}
    refused = [
        await client.post("~/relations", up),
        await client.post("~/relations", down),
        await client.post("~/relations", [good | {"id": 500}, up]),
        await client.patch(f"~/relations/{good['id']}", {"collection_one": collection}),
        await client.patch(f"~/relations/{good['id']}", {"collection_many": collection, "field_many": "id"}),
        await client.patch("~/relations", [{"id": good["id"], "collection_one": collection}]),
        await client.patch("~/relations/1", {"field_one": "all_of_them"}),
    ]
    assert [(each.status, each.code) for each in refused] == [(401, 201)] * len(refused)
    assert (await client.get(f"~/relations/{good['id']}")).data == good
    await client.delete(f"~/relations/{good['id']}")
    # Rows that are there already, of a database that another server has used, are not followed.
    session = Session(client.backend.projects.get(client.project).database)
    for row in (up, down):
        sql = f"INSERT INTO directus_relations ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) RETURNING id"
        assert await session.query(sql, list(row.values()))
    await client.post("~/items/cards", {"about": 1})
    await client.patch("~/settings/1", {"value": "x"})
    shown = await client.get("~/items/cards/1?fields=*.*")
    assert shown.data == {"id": 1, "about": 1}
    for asked in ("filter[about.id]=1", "filter[all_of_them.id]=1", "filter[all_of_them][has]=1"):
        assert (await client.get(f"~/items/cards?{asked}")).status in (404, 422)
    assert (await client.patch("~/items/cards/1", {"about": {"id": 1, "comment": "forged"}})).status == 422
