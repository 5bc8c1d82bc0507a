"""Nobody gets more than permissions give: server-written columns, presets and settings of others, roles, by whichever way they come."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client, Reply, field

EVERYTHING = {"create": "full", "read": "full", "update": "full", "delete": "full"}


async def query(client: Client, sql: str, values: Any = ()) -> list[Any]:
    return list(await Session(client.backend.projects.get(client.project).database).query(sql, values))


async def permit(client: Client, role: int, collection: str, status: str | None = None, **levels: Any) -> None:
    """Gives a role these levels on a collection, in the row that is there or a new one."""
    asked = f"filter[role]={role}&filter[collection]={collection}&filter[status]" + (f"={status}" if status else "[null]=1")
    found = (await client.get(f"~/permissions?{asked}&fields=id")).data
    if found:
        answer = await client.patch(f"~/permissions/{found[0]['id']}", levels)
    else:
        answer = await client.post("~/permissions", {"role": role, "collection": collection, "status": status, **levels})
    assert answer.status == 200, answer.body


async def team(client: Client) -> dict[str, int]:
    """Writers (wanda and walt) and Readers (rita), each with the permissions of a new role; a collection of cards that lead to a user,
    a file, a preset, a role, a permission and a setting, and are listed by boards. Gives the ids of users and roles."""
    ids: dict[str, int] = {}
    for role, people in (("writers", ("wanda", "walt")), ("readers", ("rita",))):
        ids[role] = (await client.post("~/roles", {"name": role})).data["id"]
        for name in people:
            user = {"email": f"{name}@example.com", "password": "password", "status": "active", "token": name}
            ids[name] = (await client.post("~/users", user | {"role": ids[role]})).data["id"]
    ways = {
        "person": "directus_users",
        "file": "directus_files",
        "preset": "directus_collection_presets",
        "team": "directus_roles",
        "allowed": "directus_permissions",
        "setting": "directus_settings",
        "board": "boards",
    }
    await client.collection("boards", field("name"), field("cards", "o2m"))
    await client.collection("cards", field("title"), *(field(name, "m2o", "INT", 11) for name in ways))
    relations: list[dict[str, Any]] = [
        {"collection_many": "cards", "field_many": name, "collection_one": target} for name, target in ways.items()
    ]
    relations[-1]["field_one"] = "cards"
    assert (await client.post("~/relations", relations)).status == 200
    for name in ("cards", "boards"):
        await permit(client, ids["writers"], name, **EVERYTHING)
    return ids


def refused(answer: Reply) -> tuple[int, int]:
    assert answer.status >= 400, answer.body
    return answer.status, answer.code


# --- files


async def a_file(client: Client, by: int) -> int:
    """A file as an upload makes it."""
    unique = "substr(md5(random()::text), 1, 16)"
    sql = (
        "INSERT INTO directus_files (storage, private_hash, filename_disk, filename_download, title, type, uploaded_by, uploaded_on,"
        " charset, filesize, width, height, duration, embed, checksum)"
        f" VALUES ('local', {unique}, {unique} || '.png', 'a.png', 'A', 'image/png', %s, now(), 'binary', 9, 3, 4, 0, NULL, 'sum')"
        " RETURNING id"
    )
    return int((await query(client, sql, (by,)))[0][0])


FORGED: Mapping[str, Any] = {
    "storage": "s3",
    "type": "text/html",
    "uploaded_by": 1,
    "uploaded_on": "2001-01-01 00:00:00",
    "charset": "utf-8",
    "filesize": 1,
    "width": 1,
    "height": 1,
    "duration": 1,
    "embed": "x",
    "checksum": "forged",
}


@pytest.mark.parametrize("admin", [False, True])
@ensureDeferred
async def test_what_the_server_knows_of_a_file_is_written_by_nobody_else(client: Client, *, admin: bool) -> None:
    ids = await team(client)
    file = await a_file(client, ids["wanda"])
    options = {} if admin else {"token": "wanda"}
    columns = ", ".join(f"{name}::text" for name in FORGED)
    (before,) = await query(client, f"SELECT {columns} FROM directus_files")
    assert not [name for name, value in zip(FORGED, before, strict=True) if value == str(FORGED[name])]
    forged = {"id": file, **FORGED, "title": "new"}
    card = (await client.post("~/items/cards", {"title": "c", "file": file}, **options)).data["id"]
    ways: list[tuple[str, str, Any]] = [
        ("PATCH", f"items/cards/{card}", {"file": forged}),
        ("PATCH", "items/cards", [{"id": card, "file": forged}]),
        ("PATCH", f"items/cards/{card},{card}", {"file": forged}),
        ("POST", "items/cards", {"title": "d", "file": forged}),
        ("POST", "items/cards", [{"title": "e", "file": forged}]),
        ("POST", "items/boards", {"name": "b", "cards": [{"title": "f", "file": forged}]}),
        ("PATCH", "items/boards/1", {"cards": [{"id": card, "file": forged}]}),
        ("PATCH", f"users/{1 if admin else ids['wanda']}", {"avatar": forged}),
        ("PATCH", "users/me", {"avatar": forged}),
    ]
    for number, (method, path, body) in enumerate(ways):
        text = json.loads(json.dumps(body).replace('"title": "new"', f'"title": "new {number}"'))
        answer = await client.call(method, f"~/{path}", text, **options)
        assert answer.status == 200, (method, path, answer.body)
        (after,) = await query(client, f"SELECT title, {columns} FROM directus_files")
        assert after == (f"new {number}", *before), (method, path)
    told = await client.get("~/revisions?filter[collection]=directus_files&fields=delta&limit=-1")
    assert [set(row["delta"]) for row in told.data] == [{"title"}] * len(ways)


@ensureDeferred
async def test_no_file_is_made_but_by_uploading(client: Client) -> None:
    ids = await team(client)
    new = {"filename_disk": "evil.php", "filename_download": "a.txt", "title": "T", "type": "text/html", "data": "aGVsbG8="}
    for token in (None, "wanda"):
        options = {"token": token} if token else {}
        for method, path, body in (
            ("POST", "items/cards", {"title": "c", "file": new}),
            ("POST", "items/cards", {"title": "c", "file": {"id": 77, **new}}),
            ("POST", "items/boards", {"name": "b", "cards": [{"title": "c", "file": new}]}),
            ("PATCH", f"users/{ids['wanda'] if token else 1}", {"avatar": new}),
        ):
            assert refused(await client.call(method, f"~/{path}", body, **options)) == (422, 4), (method, path)
    assert await query(client, "SELECT count(*) FROM directus_files") == [(0,)]
    assert await query(client, "SELECT count(*) FROM cards") == [(0,)]
    await permit(client, ids["writers"], "directus_files", create="none")
    assert refused(await client.post("~/items/cards", {"title": "c", "file": new}, token="wanda")) == (403, 301)


# --- users


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("external_id", "forged"),
        ("last_page", "/forged"),
        ("last_access_on", "2001-01-01 00:00:00"),
        ("password_reset_token", "forged"),
    ],
)
@ensureDeferred
async def test_what_the_server_knows_of_a_user_is_left_to_it_and_to_administrators(client: Client, name: str, value: str) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_users", "active", **EVERYTHING)
    before = await query(client, f'SELECT "{name}"::text FROM directus_users ORDER BY id')
    body = {name: value, "title": "t"}
    for path, sent in (
        ("users/me", body),
        (f"users/{ids['wanda']}", body),
        ("items/cards", {"title": "c", "person": {"id": ids["wanda"], **body}}),
        ("items/boards", {"name": "b", "cards": [{"title": "c", "person": {"id": ids["wanda"], **body}}]}),
    ):
        method = "PATCH" if path.startswith("users") else "POST"
        assert (await client.call(method, f"~/{path}", sent, token="wanda")).status == 200, path
    assert await query(client, f'SELECT "{name}"::text FROM directus_users ORDER BY id') == before
    made = {"email": "n@example.com", "password": "x", "status": "active", "role": ids["readers"], name: value}
    key = (await client.post("~/users?fields=id", made, token="wanda")).data["id"]
    ((stored,),) = await query(client, f'SELECT "{name}"::text FROM directus_users WHERE id = %s', (key,))
    assert stored != value
    assert (await client.patch(f"~/users/{ids['walt']}", {name: value})).status == 200
    ((stored,),) = await query(client, f'SELECT "{name}"::text FROM directus_users WHERE id = %s', (ids["walt"],))
    assert stored == value


@ensureDeferred
async def test_the_external_id_of_a_role_is_left_to_the_server_and_to_administrators(client: Client) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_roles", **EVERYTHING)
    made = (await client.post("~/roles", {"name": "new", "external_id": "forged"}, token="wanda")).data
    assert made["external_id"] not in ("forged", None)
    changed = await client.patch(f"~/roles/{made['id']}", {"external_id": "forged", "description": "d"}, token="wanda")
    assert (changed.data["external_id"], changed.data["description"]) == (made["external_id"], "d")
    nested = {"title": "c", "team": {"id": made["id"], "external_id": "forged", "description": "e"}}
    assert (await client.post("~/items/cards", nested, token="wanda")).status == 200
    shown = (await client.get(f"~/roles/{made['id']}")).data
    assert (shown["external_id"], shown["description"]) == (made["external_id"], "e")
    assert (await client.patch(f"~/roles/{made['id']}", {"external_id": "known"})).data["external_id"] == "known"


def role_forms(role: int | None) -> list[Any]:
    """A role as clients may send it."""
    return [None] if role is None else [role, str(role), {"id": role}, {"id": str(role)}, f" {role}", float(role)]


async def stored_roles(client: Client) -> dict[int, int | None]:
    return dict(await query(client, "SELECT id, role FROM directus_users ORDER BY id"))


@ensureDeferred
async def test_whoever_creates_users_gives_them_any_role_but_the_administrators(client: Client) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_users", "active", create="full")
    number = 0

    def person(role: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"email": f"new{number}@example.com", "password": "x", "status": "active", "role": role}

    for role in (ids["writers"], ids["readers"], 2, None):
        for form in role_forms(role):
            if isinstance(form, dict):
                # What is merely linked must be seen; writers see their own role.
                form = form if role == ids["writers"] else role
            before = await stored_roles(client)
            answer = await client.post("~/users?fields=id", person(form), token="wanda")
            if answer.status == 422:
                assert await stored_roles(client) == before
                continue
            assert answer.status == 200, (form, answer.body)
            assert (await stored_roles(client))[answer.data["id"]] == role, form
    before = await stored_roles(client)
    for form in role_forms(1):
        for method, path, body in (
            ("POST", "users", person(form)),
            ("POST", "users", [person(ids["readers"]), person(form)]),
            ("POST", "items/cards", {"title": "c", "person": person(form)}),
            ("POST", "items/cards", [{"title": "c"}, {"title": "d", "person": person(form)}]),
            ("POST", "items/boards", {"name": "b", "cards": [{"title": "c", "person": person(form)}]}),
        ):
            answer = await client.call(method, f"~/{path}", body, token="wanda")
            assert answer.status in (403, 404, 422), (method, path, form, answer.body)
    assert await stored_roles(client) == before
    # A status that may not be created, and a role that may not be written.
    draft = person(ids["readers"]) | {"status": "draft"}
    assert refused(await client.post("~/users", draft, token="wanda")) == (403, 301)
    await permit(client, ids["writers"], "directus_users", "active", write_field_blacklist=["role"])
    assert refused(await client.post("~/users", person(ids["readers"]), token="wanda")) == (403, 305)
    unnamed = {"email": "u@example.com", "password": "x", "status": "active"}
    assert (await client.post("~/users", unnamed, token="wanda")).status == 200


@pytest.mark.parametrize(
    ("level", "others", "members"), [("none", False, False), ("mine", False, False), ("role", False, False), ("full", True, True)]
)
@ensureDeferred
async def test_roles_of_others_are_changed_with_the_level_full(
    client: Client, level: str, *, others: bool, members: bool
) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_users", "active", update=level)
    await permit(client, ids["writers"], "directus_roles", read="full")
    await permit(client, ids["writers"], "directus_users", "draft", read="full", update="none")
    admin = {"email": "second@example.com", "password": "x", "role": 1, "status": "active"}
    second = (await client.post("~/users", admin)).data["id"]
    draft = {"email": "draft@example.com", "password": "x", "role": ids["readers"], "status": "draft"}
    drafted = (await client.post("~/users", draft)).data["id"]
    roles = await stored_roles(client)

    async def tried(user: int, role: Any) -> list[bool]:
        """Whether the change is done, by each way."""
        done = []
        for number, (method, path, body) in enumerate(
            (
                ("PATCH", f"users/{user}", {"role": role}),
                ("PATCH", f"users/{user}", {"role": role, "title": "t"}),
                ("PATCH", f"users/{user},{user}", {"role": role}),
                ("POST", "items/cards", {"title": "c", "person": {"id": user, "role": role}}),
                ("POST", "items/boards", {"name": "b", "cards": [{"title": "c", "person": {"id": user, "role": role}}]}),
            )
        ):
            answer = await client.call(method, f"~/{path}", body, token="wanda")
            now = await stored_roles(client)
            done.append(now != roles)
            assert answer.status in ((200,) if done[-1] else (403, 404, 422)), (number, user, role, answer.body)
            assert {key for key in now if now[key] != roles[key]} <= {user}
            await query(client, "UPDATE directus_users SET role = %s WHERE id = %s RETURNING 1", (roles[user], user))
        return done

    for form in (ids["writers"], str(ids["writers"]), {"id": ids["writers"]}, None, 2):
        assert await tried(ids["rita"], form) == [others] * 5, form
    for form in (ids["readers"], str(ids["readers"]), {"id": ids["readers"]}, None):
        assert await tried(ids["walt"], form) == [members] * 5, form
        assert await tried(ids["wanda"], form) == [False] * 5, form
        assert await tried(second, form) == [False] * 5, form
        assert await tried(drafted, ids["writers"]) == [False] * 5
    for form in role_forms(1):
        for user in (ids["rita"], ids["walt"], ids["wanda"]):
            assert await tried(user, form) == [False] * 5, (user, form)
    # A role that may not be given is refused as such, even one that may not be seen.
    await permit(client, ids["writers"], "directus_roles", read="mine")
    for form in (1, "1", {"id": 1}, {"id": "1"}, {"id": 1, "name": "x"}, {"id": ids["readers"]}):
        assert refused(await client.patch("~/users/me", {"role": form}, token="wanda")) == (403, 302), form


@ensureDeferred
async def test_a_role_that_may_not_be_written_is_not(client: Client) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_users", "active", update="full", write_field_blacklist=["role"])
    for role in (ids["writers"], ids["readers"], None):
        assert refused(await client.patch(f"~/users/{ids['rita']}", {"role": role}, token="wanda")) == (403, 305)
    assert (await client.patch(f"~/users/{ids['rita']}", {"title": "t"}, token="wanda")).status == 200


@ensureDeferred
async def test_users_join_and_leave_a_role_through_it_by_the_same_rules(client: Client) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_roles", read="full", update="full")
    before = await stored_roles(client)
    path = f"~/roles/{ids['writers']}"
    body = {"users": [{"id": ids["rita"]}]}
    assert refused(await client.patch(path, body, token="wanda")) == (403, 302)
    await permit(client, ids["writers"], "directus_users", "active", update="full")
    for role, user in ((1, ids["rita"]), (ids["readers"], ids["wanda"]), (ids["readers"], 1)):
        answer = await client.patch(f"~/roles/{role}", {"users": [{"id": user}]}, token="wanda")
        assert refused(answer) == (403, 302), (role, user)
    assert await stored_roles(client) == before
    assert (await client.patch(path, body, token="wanda")).status == 200
    assert await stored_roles(client) == before | {ids["rita"]: ids["writers"]}


@ensureDeferred
async def test_a_new_role_with_the_id_of_a_deleted_one_has_none_of_its_members(client: Client) -> None:
    role = (await client.post("~/roles", {"name": "Former"})).data["id"]
    users = []
    for name in ("a", "b"):
        attributes = {"email": f"{name}@example.com", "password": "x", "status": "active", "role": role, "token": name}
        users.append((await client.post("~/users", attributes)).data["id"])
    assert (await client.get("~/users/me?fields=id", token="a")).status == 200
    assert (await client.delete(f"~/roles/{role}")).status == 204
    assert (await client.get("~/users/me?fields=id", token="a")).status == 401
    # One of them is made a member with the role.
    new = {"id": role, "name": "New", "users": [{"id": users[1]}]}
    assert (await client.post("~/roles", new)).status == 200
    assert [(await client.get("~/users/me?fields=id", token=token)).status for token in ("a", "b")] == [401, 200]
    # The id of a role that exists changes nothing.
    assert (await client.post("~/roles", {"id": role, "name": "Newer"})).status == 409
    assert (await client.get("~/users/me?fields=id", token="b")).status == 200


@ensureDeferred
async def test_me_is_nobody_without_the_right_to_read_users(client: Client) -> None:
    ids = await team(client)
    file = await a_file(client, ids["wanda"])
    assert (await client.get("~/users/me", token="wanda")).status == 200
    await permit(client, ids["writers"], "directus_users", "active", read="none")
    for method, path, body in (
        ("GET", "users/me", ...),
        ("GET", "users/me?fields=id", ...),
        ("PATCH", "users/me", {"title": "x", "avatar": file}),
        ("PATCH", "users/me/tracking/page", {"last_page": "/x"}),
        ("GET", "users/me/revisions", ...),
        ("GET", "users/me/revisions/0", ...),
        ("DELETE", "users/me", ...),
    ):
        assert refused(await client.call(method, f"~/{path}", body, token="wanda")) == (401, 3), (method, path)
    assert (await client.get("~/users/me", token="rita")).status == 200
    for level in ("mine", "role", "full"):
        await permit(client, ids["writers"], "directus_users", "active", read=level)
        assert (await client.get("~/users/me", token="wanda")).data["id"] == ids["wanda"]


# --- presets


PRESET = {"collection": "cards", "title": "P"}


async def owners(client: Client) -> dict[int, tuple[int | None, int | None]]:
    rows = await query(client, 'SELECT id, "user", role FROM directus_collection_presets WHERE id > 4 ORDER BY id')
    return {key: (user, role) for key, user, role in rows}


def whose(ids: Mapping[str, int]) -> dict[str, tuple[int | None, int | None]]:
    """To whom a preset may belong: its user and role."""
    return {
        "own": (ids["wanda"], None),
        "own of the role": (ids["wanda"], ids["writers"]),
        "own of another role": (ids["wanda"], ids["readers"]),
        "colleague": (ids["walt"], None),
        "colleague of the role": (ids["walt"], ids["writers"]),
        "stranger": (ids["rita"], None),
        "administrator": (1, None),
        "role": (None, ids["writers"]),
        "another role": (None, ids["readers"]),
        "administrators": (None, 1),
        "everybody": (None, None),
    }


OWN = {"own", "own of the role"}
COLLEAGUES = {"colleague", "colleague of the role"}


@pytest.mark.parametrize(("level", "reach"), [("none", OWN), ("mine", OWN), ("role", OWN | COLLEAGUES), ("full", None)])
@ensureDeferred
async def test_presets_are_made_for_those_alone_whose_presets_one_may_change(
    client: Client, level: str, reach: set[str] | None
) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_collection_presets", update=level)
    for name, (user, role) in whose(ids).items():
        allowed = reach is None or name in reach
        users: list[Any] = [user] if user is None else [user, str(user)]
        for form in users:
            body = {**PRESET, "user": form, "role": role}
            for path, sent in (
                ("collection_presets", body),
                ("collection_presets", [body]),
                ("items/cards", {"title": "c", "preset": body}),
                ("items/boards", {"name": "b", "cards": [{"title": "c", "preset": body}]}),
            ):
                before = await owners(client)
                answer = await client.post(f"~/{path}", sent, token="wanda")
                assert answer.status in ((200, 204) if allowed else (403,)), (name, form, path, answer.body)
                new = {key: each for key, each in (await owners(client)).items() if key not in before}
                assert list(new.values()) == ([(user, role)] if allowed else []), (name, form, path)
        if user is not None:
            # The user of a preset is no relation: an object leads nowhere.
            answer = await client.post("~/collection_presets", {**PRESET, "user": {"id": user}, "role": role}, token="wanda")
            assert refused(answer) == (422, 213)


@ensureDeferred
async def test_a_preset_without_an_owner_is_its_creators(client: Client) -> None:
    ids = await team(client)
    made = await client.post("~/collection_presets", PRESET, token="wanda")
    assert (made.data["user"], made.data["role"]) == (ids["wanda"], None)
    await permit(client, ids["writers"], "directus_collection_presets", update="full")
    made = await client.post("~/collection_presets", PRESET, token="wanda")
    assert made.data["user"] is None
    assert (await client.post("~/collection_presets", PRESET)).data["user"] is None
    await permit(client, 2, "directus_collection_presets", create="full", read="full")
    assert refused(await client.post("~/collection_presets", PRESET, token=None)) == (403, 301)
    assert refused(await client.post("~/collection_presets", {**PRESET, "user": 1}, token=None)) == (403, 301)


@pytest.mark.parametrize(("level", "reach"), [("none", set()), ("mine", OWN), ("role", OWN | COLLEAGUES), ("full", None)])
@ensureDeferred
async def test_presets_are_moved_among_those_alone_whose_presets_one_may_change(
    client: Client, level: str, reach: set[str] | None
) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], "directus_collection_presets", update=level)
    places = whose(ids)
    for origin in ("own", "colleague", "stranger", "everybody", "role"):
        changeable = reach is None or origin in reach
        for name, (user, role) in places.items():
            sql = "INSERT INTO directus_collection_presets (collection, \"user\", role) VALUES ('cards', %s, %s) RETURNING id"
            ((key,),) = await query(client, sql, places[origin])
            body = {"user": user, "role": role}
            allowed = changeable and (reach is None or name in reach or name == origin)
            for method, path, sent in (
                ("PATCH", f"collection_presets/{key}", body),
                ("PATCH", "collection_presets", [{"id": key, **body}]),
                ("POST", "items/cards", {"title": "c", "preset": {"id": key, **body}}),
            ):
                answer = await client.call(method, f"~/{path}", sent, token="wanda")
                after = (await owners(client))[key]
                assert answer.status in ((200,) if allowed else (403,)), (origin, name, method, path, answer.body)
                assert after == ((user, role) if allowed else places[origin]), (origin, name, method, path)
                await query(
                    client,
                    'UPDATE directus_collection_presets SET "user" = %s, role = %s WHERE id = %s RETURNING 1',
                    (*places[origin], key),
                )


@ensureDeferred
async def test_a_preset_that_was_given_may_be_changed_but_not_passed_on(client: Client) -> None:
    ids = await team(client)
    given = {**PRESET, "user": ids["wanda"], "role": ids["readers"]}
    key = (await client.post("~/collection_presets", given)).data["id"]
    path = f"~/collection_presets/{key}"
    assert (await client.patch(path, {"title": "mine", "role": ids["readers"]}, token="wanda")).status == 200
    assert refused(await client.patch(path, {"user": ids["walt"]}, token="wanda")) == (403, 302)
    assert (await client.patch(path, {"role": None}, token="wanda")).data["role"] is None


# --- settings, webhooks, permissions, relations


@ensureDeferred
async def test_settings_are_written_by_the_level_of_their_permission_alone(client: Client) -> None:
    ids = await team(client)
    before = await query(client, "SELECT * FROM directus_settings ORDER BY id")

    async def ways(body: Any) -> list[Reply]:
        return [
            await client.patch("~/settings/1", body, token="wanda"),
            await client.patch("~/settings", [{"id": 1, **body}], token="wanda"),
            await client.post("~/items/cards", {"title": "c", "setting": {"id": 1, **body}}, token="wanda"),
        ]

    for level in ("none", "mine", "role"):
        await permit(client, ids["writers"], "directus_settings", update=level)
        assert [refused(each) for each in await ways({"value": "x"})] == [(403, 302)] * 3
    assert await query(client, "SELECT * FROM directus_settings ORDER BY id") == before
    await permit(client, ids["writers"], "directus_settings", update="full", write_field_blacklist=["key"])
    assert [refused(each) for each in await ways({"key": "y"})] == [(403, 305)] * 3
    assert [each.status for each in await ways({"value": "x"})] == [200] * 3


@ensureDeferred
async def test_a_setting_names_a_file_that_may_be_read(client: Client) -> None:
    ids = await team(client)
    mine, other = await a_file(client, ids["wanda"]), await a_file(client, ids["walt"])
    await permit(client, ids["writers"], "directus_settings", update="full")
    await permit(client, ids["writers"], "directus_files", read="mine")
    (logo,) = (await client.get("~/settings?filter[key]=project_logo&fields=id")).data
    path = f"~/settings/{logo['id']}"
    missing = await client.patch(path, {"value": 9999}, token="wanda")
    assert refused(missing) == (404, 203)
    for value in (other, str(other), {"id": other}):
        assert (await client.patch(path, {"value": value}, token="wanda")).body == missing.body
    for value in (mine, str(mine), {"id": mine}, None):
        assert (await client.patch(path, {"value": value}, token="wanda")).status == 200
    await permit(client, ids["writers"], "directus_files", read="none")
    assert (await client.patch(path, {"value": mine}, token="wanda")).body == missing.body


@ensureDeferred
async def test_a_webhook_sends_no_more_than_its_maker_may_read(client: Client) -> None:
    ids = await team(client)
    await client.collection("notes", field("title"), field("secret"), field("owner", "owner", "INT", 11))
    await permit(client, ids["writers"], "directus_webhooks", **EVERYTHING)
    hook = {"collection": "notes", "directus_action": "item.create:after", "url": "http://127.0.0.1:9/", "http_action": "post"}
    for levels in (
        {"read": "none"},
        {"read": "mine"},
        {"read": "role"},
        {"read": "full", "read_field_blacklist": ["secret"]},
    ):
        await permit(client, ids["writers"], "notes", **levels)
        assert refused(await client.post("~/webhooks", hook, token="wanda")) == (403, 301), levels
    for unknown in ("nowhere", "directus_users", "directus_activity"):
        assert refused(await client.post("~/webhooks", hook | {"collection": unknown}, token="wanda")) == (403, 301)
    key = (await client.post("~/webhooks", hook)).data["id"]
    for change in ({"url": "http://elsewhere/"}, {"status": "active"}, {"collection": "nowhere"}):
        answer = await client.patch(f"~/webhooks/{key}", change, token="wanda")
        assert answer.status in (403, 404), change
    await permit(client, ids["writers"], "notes", read="full", read_field_blacklist=[])
    assert (await client.post("~/webhooks", hook, token="wanda")).status == 200
    assert (await client.patch(f"~/webhooks/{key}", {"url": "http://elsewhere/"}, token="wanda")).status == 200


@pytest.mark.parametrize("collection", ["directus_permissions", "directus_relations"])
@ensureDeferred
async def test_permissions_and_relations_are_written_by_administrators_alone(client: Client, collection: str) -> None:
    ids = await team(client)
    await permit(client, ids["writers"], collection, **EVERYTHING)
    await client.collection("ways", field("title"), field("there", "m2o", "INT", 11))
    if collection == "directus_permissions":
        await client.post("~/relations", {"collection_many": "ways", "field_many": "there", "collection_one": collection})
    await permit(client, ids["writers"], "ways", **EVERYTHING)
    path = collection.removeprefix("directus_")
    new: dict[str, Any] = {"collection": "boards", "role": ids["writers"], "read": "full"}
    if path == "relations":
        new = {"collection_many": "cards", "field_many": "title", "collection_one": "directus_users"}
    before = await query(client, f"SELECT * FROM {collection} ORDER BY id")
    key = (await client.get(f"~/{path}?limit=1&fields=id&sort=-id")).data[0]["id"]
    answers = [
        await client.post(f"~/{path}", new, token="wanda"),
        await client.post(f"~/{path}", [new], token="wanda"),
        await client.patch(f"~/{path}/{key}", new, token="wanda"),
        await client.patch(f"~/{path}", [{"id": key, **new}], token="wanda"),
        await client.delete(f"~/{path}/{key}", token="wanda"),
        await client.post("~/permissions/import", {"roles": [{"name": "writers", "permissions": []}]}, token="wanda"),
    ]
    if path == "permissions":
        for body in ({"there": new}, {"there": {"id": key, **new}}, {"there": {"id": key, "$delete": True}}):
            answers.append(await client.post("~/items/ways", body, token="wanda"))
            answers.append(await client.post("~/items/ways", [{"title": "x"}, body], token="wanda"))
    assert [each.status for each in answers] == [403] * len(answers)
    assert await query(client, f"SELECT * FROM {collection} ORDER BY id") == before
