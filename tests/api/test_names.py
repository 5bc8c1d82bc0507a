"""Names, defaults and values of every character: each is stored as it is, or refused by name; none fails the server."""

from typing import Any
from urllib.parse import quote

from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import KEY, Client, field

TEXTS = [
    "50%",
    "50%%",
    "%%",
    "%s",
    "%(x)s",
    "100%% of %s and %d",
    "%%%",
    "{}",
    "{0}",
    "it's",
    "a\\b",
    'q"q',
    "E'x'",
    "\n\t",
    "ä%",
]


@ensureDeferred
async def test_a_default_is_kept_character_by_character(client: Client) -> None:
    number = field("n", "integer", "INT", 11)
    await client.collection("t", number, *(field(f"a{n}", default_value=text) for n, text in enumerate(TEXTS)))
    for n, text in enumerate(TEXTS):
        made = await client.post("~/fields/t", field(f"b{n}", default_value=text))
        assert (made.status, made.data["default_value"]) == (200, text)
        # Of another field, to a longer text; of this one, to what it is.
        changed = await client.patch(f"~/fields/t/a{n}", {"default_value": text + "!"})
        assert (changed.status, changed.data["default_value"]) == (200, text + "!")
        again = await client.patch(f"~/fields/t/b{n}", {"note": "the same", "default_value": text})
        assert (again.status, again.data["default_value"]) == (200, text)
    item = (await client.post("~/items/t", {"n": 1})).data
    for n, text in enumerate(TEXTS):
        assert (item[f"a{n}"], item[f"b{n}"]) == (text + "!", text)
        found = await client.get(f"~/items/t?filter[b{n}][eq]={quote(text, safe='')}&fields=n")
        assert found.data == [{"n": 1}], text


@ensureDeferred
async def test_the_values_of_an_enum_are_kept_character_by_character(client: Client) -> None:
    length = ",".join("'{}'".format(text.replace("'", "''")) for text in TEXTS)
    await client.collection("t", field("kind", datatype="ENUM", length=length, default_value=TEXTS[1]))
    assert (await client.get("~/fields/t/kind")).data["length"] == length
    assert (await client.post("~/items/t", {})).data["kind"] == TEXTS[1]
    for text in TEXTS:
        assert (await client.post("~/items/t", {"kind": text})).data["kind"] == text
        assert (await client.post("~/items/t", {"kind": text + "?"})).code == 4


# --- names

FREE = [
    "a b", "a%b", "%s", "%(x)s", "100%", "it's", 'say "hi"', "a\\b", "a?b", "a#b", "a&b=c", "a+b", "a*b", "a;b", "(a)", "{a}", "a:b", "$a",
    "select", "id2", "a-b", "ä", "Ключ", "名前", "😀1", "a" * 63, "名" * 21, "😀" * 15 + "abc", "A", "_1", "1", "0", "t0", "key", "v0",
    "eq", "logical", "a'--", "a\u200bb",
]  # fmt: skip
REFUSED_ANYWHERE: list[Any] = [
    "", " ", "?", "*", "??", "--", "a/b", "a,b", "a\nb", "a\tb", "a\x7fb", "a\x85b", "a\u2028b", " a", "a ", "a\u00a0", "a" * 64, "名" * 22,
    "ä" * 32, None, 1, True, ["a"], {"a": 1},
]  # fmt: skip
NO_FIELDS = ["a.b", "a[b", "a]b", "a[]", "-a", "xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "$delete"]
NO_COLLECTIONS = ["directus_x", "directus_users", "pg_class", "pg_x"]


def part(name: str) -> str:
    return quote(name, safe="")


@ensureDeferred
async def test_names_that_the_api_cannot_say_are_refused_and_leave_nothing(client: Client) -> None:
    await client.collection("t", field("a"))
    before = (await client.get("~/collections")).data, (await client.get("~/fields/t")).data
    for name in [*REFUSED_ANYWHERE, *NO_COLLECTIONS]:
        answer = await client.post("~/collections", {"collection": name, "fields": [KEY, field("a")]})
        assert (answer.status, answer.code) == (422, 4), name
    for name in [*REFUSED_ANYWHERE, *NO_FIELDS]:
        answer = await client.post("~/fields/t", field(name))
        assert (answer.status, answer.code) == (422, 4), name
        answer = await client.post("~/collections", {"collection": "u", "fields": [KEY, field(name)]})
        assert (answer.status, answer.code) == (422, 4), name
    assert ((await client.get("~/collections")).data, (await client.get("~/fields/t")).data) == before


@ensureDeferred
async def test_a_field_of_any_other_name_works_everywhere(client: Client) -> None:
    await client.collection("t", *(field(name, unique=n % 2 == 0) for n, name in enumerate(FREE[::2])))
    for name in FREE[1::2]:
        assert (await client.post("~/fields/t", field(name))).status == 200, name
    item = {name: f"{name} 1"[-200:] for name in FREE}
    made = await client.post("~/items/t", item)
    assert made.status == 200, made.body
    assert made.data == {"id": 1, **item}
    await client.post("~/items/t", {name: f"{name} 2" for name in FREE})
    for name in FREE:
        asked = part(name)
        found = await client.get(f"~/items/t?fields=id,{asked}&filter[{asked}][eq]={part(name + ' 1')}&sort=-{asked}")
        assert (found.status, found.data) == (200, [{"id": 1, name: item[name]}]), name
        assert [row["id"] for row in (await client.get(f"~/items/t?fields=id&sort=-{asked}")).data] == [2, 1], name
        assert [row["id"] for row in (await client.get(f"~/items/t?fields=id&sort={asked}")).data] == [1, 2], name
        assert name not in (await client.get(f"~/items/t/1?fields=*,-{asked}")).data, name
        assert (await client.get(f"~/items/t?aggregate[max]={asked}")).data == [{"max": {name: f"{name} 2"}}], name
        assert (await client.get(f"~/items/t?aggregate[count]=*&groupby={asked}")).status == 200, name
        changed = await client.patch("~/items/t/1", {name: "changed"})
        assert changed.data[name] == "changed", name
        altered = await client.patch(f"~/fields/t/{asked}", {"datatype": "TEXT", "default_value": name, "unique": True})
        assert (altered.status, altered.data["unique"], altered.data["default_value"]) == (200, True, name), altered.body
        clash = await client.post("~/items/t", {name: "CHANGED"})
        assert (clash.status, clash.code) == (409, 204), name
        assert f'"{name}" of "t"' in clash.json["error"]["message"]
    revision = (await client.get("~/items/t/1/revisions?sort=id&limit=1")).data[0]
    assert (await client.patch(f"~/items/t/1/revert/{revision['id']}", {})).data == {"id": 1, **item}
    assert (await client.get("~/items/t?q=changed")).data == []
    for name in FREE:
        assert (await client.delete(f"~/fields/t/{part(name)}")).status == 204, name
    assert (await client.get("~/items/t")).data == [{"id": 1}, {"id": 2}]


@ensureDeferred
async def test_a_collection_of_any_other_name_works_everywhere(client: Client) -> None:
    for name in FREE:
        await client.collection(name, field("name", unique=True), field("parent", "m2o", "INT", 11))
        relation = {"collection_many": name, "field_many": "parent", "collection_one": name}
        assert (await client.post("~/relations", relation)).status == 200, name
        path = f"~/items/{part(name)}"
        made = await client.post(path, {"name": "x", "parent": {"name": "y"}})
        assert (made.status, made.data) == (200, {"id": 2, "name": "x", "parent": 1}), name
        clash = await client.post(path, {"name": "X"})
        assert (clash.status, clash.code) == (409, 204), name
        found = await client.get(f"{path}?filter[parent.name][eq]=y&fields=*,parent.*&meta=*")
        assert found.data == [{"id": 2, "name": "x", "parent": {"id": 1, "name": "y", "parent": None}}], name
        assert (await client.post(path, {"id": 9, "name": "z"})).data["id"] == 9
        assert (await client.post(path, {"name": "zz"})).data["id"] == 10
        assert (await client.patch(f"{path}/2", {"name": "changed"})).data["name"] == "changed"
        revision = (await client.get(f"{path}/2/revisions?sort=id&limit=1")).data[0]
        assert (await client.patch(f"{path}/2/revert/{revision['id']}", {})).data["name"] == "x"
        assert (await client.get(f"~/collections/{part(name)}")).data["collection"] == name
        assert (await client.patch(f"~/collections/{part(name)}", {"note": name[:50]})).data["note"] == name[:50]
        assert (await client.get(f"~/fields/{part(name)}/name")).data["collection"] == name
        assert (await client.delete(f"{path}/9,10")).status == 204
    assert {row["collection"] for row in (await client.get("~/collections")).data} >= set(FREE)
    for name in FREE:
        assert (await client.delete(f"~/collections/{part(name)}")).status == 204, name
        assert (await client.get(f"~/items/{part(name)}")).code == 200


@ensureDeferred
async def test_tables_of_others_with_other_names_do_no_harm(client: Client) -> None:
    """What the API cannot say stays out of reach, and everything else works, in these tables and others."""
    names = [name for name in [*REFUSED_ANYWHERE, *NO_FIELDS[:4], "-a", "$delete", "*", "?"] if isinstance(name, str)]
    names = [name for name in dict.fromkeys(names) if name and len(name.encode()) < 64]
    quoted = ['"' + name.replace('"', '""').replace("%", "%%") + '"' for name in names]

    async def work(session: Session) -> None:
        columns = ", ".join(f"{name} text" for name in quoted)
        await session.query(f"CREATE TABLE odd (id serial PRIMARY KEY, good text, {columns})")
        for name in quoted:
            await session.query(f"CREATE TABLE {name} (id serial PRIMARY KEY, good text)")
            await session.query(f"CREATE UNIQUE INDEX ON odd (lower({name}))")
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(work)
    assert {row["collection"] for row in (await client.get("~/collections")).data} >= {"odd", *names}
    shown = {row["field"]: row for row in (await client.get("~/fields/odd")).data}
    assert shown.keys() == {"id", "good", *names}
    assert all(shown[name]["unique"] for name in names)
    item = {"good": "g", **dict.fromkeys(names, "v")}
    for value in (item, {**item, **dict.fromkeys(names)}):
        made = await client.post("~/items/odd", value)
        assert made.status == 200, made.body
        assert {name: made.data[name] for name in value} == value
    assert (await client.patch("~/items/odd/1", dict.fromkeys(names, "w"))).status == 200
    revision = (await client.get("~/items/odd/1/revisions?sort=id&limit=1")).data[0]
    assert {**(await client.patch(f"~/items/odd/1/revert/{revision['id']}", {})).data, "id": 1} == {"id": 1, **item}
    assert (await client.get("~/items/odd?filter[good][eq]=g&sort=-good&q=g&fields=good,id")).status == 200
    for name in names:
        asked = part(name)
        for query in (f"fields={asked}", f"sort={asked}", f"filter[{asked}][eq]=v", f"groupby={asked}&aggregate[count]=*"):
            assert (await client.get(f"~/items/odd?{query}")).status in (200, 404, 422), (name, query)
        assert (await client.get(f"~/items/{asked}")).status in (200, 404), name
        assert (await client.get(f"~/collections/{asked}")).status in (200, 404), name
    adopted = await client.post("~/collections", {"collection": "a b", "fields": [KEY, field("x")]})
    assert adopted.status == 200
    taken = await client.post("~/collections", {"collection": "odd", "fields": [field(name) for name in names[:5]]})
    assert (taken.status, taken.data["managed"]) == (200, True)
    assert (await client.get("~/items/a%20b")).data == []


@ensureDeferred
async def test_a_hidden_field_of_any_name_is_hidden(client: Client) -> None:
    names = ["plain", "a,b", " blanks ", "a.b", "-a", ",", "x,", ",y"]

    async def work(session: Session) -> None:
        columns = ", ".join(f'"{name}" text' for name in names)
        await session.query(f"CREATE TABLE odd (id serial PRIMARY KEY, b text, good text, {columns})")
        await session.query("SELECT directus_touch('schema')")

    await Session(client.backend.projects.get(client.project).database).transaction(work)
    await client.post("~/items/odd", {"good": "good", **dict.fromkeys(names, "secret")})
    rights = {"role": 2, "collection": "odd", "read": "full"}
    made = (await client.post("~/permissions", {**rights, "read_field_blacklist": names})).data["id"]
    assert (await client.get("~/items/odd", token=None)).data[0]["good"] == "good"
    assert "secret" not in (await client.get("~/items/odd", token=None)).body.decode()
    for name in names:
        assert (await client.patch(f"~/permissions/{made}", {"read_field_blacklist": [name]})).status == 200
        assert name not in (await client.get("~/items/odd", token=None)).data[0], name
