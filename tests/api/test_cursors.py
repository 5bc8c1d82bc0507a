"""Lists with a cursor: pages that follow one another by the values of their rows."""

import random
from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client, Reply, field

SORTABLE = (
    "name",
    "size",
    "price",
    "ratio",
    "day",
    "moment",
    "flag",
    "-name",
    "-size",
    "-price",
    "-ratio",
    "-day",
    "-moment",
    "-flag",
)
NAMES = (None, "", "a", "A", "b", "B ", "é", "ß", "50%", "it's", "\\", "日本", "a" * 200)
SIZES = (None, 0, -1, 7, 2147483647)
PRICES = (None, "0.00", "1.10", "1.11", "-99.99")
RATIOS = (None, 0.1, 1 / 3, -1e300, 1e-300)
DAYS = (None, "2024-02-29", "1999-12-31", "2024-03-01")
MOMENTS = (None, "2024-02-29 12:00:00", "2024-02-29 12:00:01", "1970-01-01 00:00:00")


async def things(client: Client, number: int = 60) -> None:
    """A collection with a field of each kind, and rows with many equal values and NULLs."""
    await client.collection(
        "things",
        field("name"),
        field("size", "integer", "INT", 11, signed=True),
        field("price", "decimal", "DECIMAL", "8,2", signed=True),
        field("ratio", "decimal", "DOUBLE", None, signed=True),
        field("day", "date", "DATE", None),
        field("moment", "datetime", "DATETIME", None),
        field("flag", "boolean", "TINYINT", 1),
        field("other", "m2o", "INT", 11),
        {"field": "others", "type": "o2m"},
    )
    relation = {"collection_many": "things", "field_many": "other", "collection_one": "things", "field_one": "others"}
    assert (await client.post("~/relations", relation)).status == 200
    values = {
        "name": NAMES,
        "size": SIZES,
        "price": PRICES,
        "ratio": RATIOS,
        "day": DAYS,
        "moment": MOMENTS,
        "flag": (None, True, False),
    }
    # The lengths are not multiples of one another, so that the combinations differ.
    rows = [
        {name: of[(n * (place + 3) // 2) % len(of)] for place, (name, of) in enumerate(values.items())} for n in range(number)
    ]
    for n, row in enumerate(rows):
        row["other"] = n // 2 + 1 if n % 3 else None
    assert (await client.post("~/items/things?fields=id", rows)).status == 200


async def page(client: Client, query: str, cursor: str = "", **more: Any) -> Reply:
    found = await client.get(f"~/items/things?{query}&cursor={cursor}", **more)
    assert found.status == 200, found.body
    return found


async def walk(
    client: Client, query: str, sizes: list[int], cursor: str | None = "", way: str = "next", **more: Any
) -> list[Any]:
    """All items from a cursor on, page by page, with the given numbers of items in turn."""
    items: list[Any] = []
    number = 0
    while cursor is not None:
        limit = sizes[number % len(sizes)]
        found = await page(client, f"{query}&limit={limit}", cursor, **more)
        assert len(found.data) <= limit
        items = [*items, *found.data] if way == "next" else [*found.data, *items]
        cursor = found.json["meta"][f"{way}_cursor"]
        number += 1
        assert number < 1000
    return items


@ensureDeferred
async def test_pages_are_the_list_in_both_directions_for_any_sort(client: Client) -> None:
    """Pages of any size, joined, are what a list without a cursor is."""
    await things(client)
    draw = random.Random(7)
    for number in range(30):
        sort = [name for name in draw.sample(SORTABLE, draw.randrange(4)) if draw.random() < 0.9]
        sort = list({name.strip("-"): name for name in sort}.values())
        sizes = [draw.randrange(1, 18) for _ in range(draw.randrange(1, 4))]
        if number % 10 == 0:
            (row,) = (await client.get("~/settings?filter[key]=sort_null_last")).data
            assert (await client.patch(f"~/settings/{row['id']}", {"value": str(number % 20 // 10)})).status == 200
        query = f"fields={draw.choice(['*.*', 'id,name'])}&sort={','.join(sort)}"
        whole = (await client.get(f"~/items/things?{query}&limit=-1")).data
        assert len(whole) == 60
        assert await walk(client, query, sizes) == whole, (query, sizes)
        last = await page(client, f"{query}&limit=1000")
        assert (last.data, last.json["meta"]["next_cursor"], last.json["meta"]["previous_cursor"]) == (whole, None, None)
        middle = await page(client, f"{query}&limit=25")
        behind = await page(client, f"{query}&limit=10", middle.json["meta"]["next_cursor"])
        assert behind.data == whole[25:35]
        assert await walk(client, query, sizes, behind.json["meta"]["previous_cursor"], "previous") == whole[:25]


@ensureDeferred
async def test_rows_that_come_and_go_do_not_shift_the_pages(client: Client) -> None:
    await things(client, 20)
    first = await page(client, "sort=size,-name&fields=id&limit=8")
    rest = (await client.get("~/items/things?sort=size,-name&fields=id&limit=-1")).data[8:]
    # The row that the cursor was made from, others before it, and one behind it.
    for item in (*first.data[-2:], rest[3]):
        assert (await client.delete(f"~/items/things/{item['id']}")).status == 204
    for size in (-1, -1):
        assert (await client.post("~/items/things", {"size": size})).status == 200
    assert await walk(client, "sort=size,-name&fields=id", [5], first.json["meta"]["next_cursor"]) == rest[:3] + rest[4:]


@ensureDeferred
async def test_filters_and_searches_narrow_the_pages(client: Client) -> None:
    await things(client)
    for query in (
        "filter[size][gte]=0",
        "q=a",
        "filter[other.name][nnull]&filter[size][gte]=7&filter[size][logical]=or",
        "groups=size",
    ):
        found = await client.get(f"~/items/things?{query}&sort=-day&limit=-1&fields=id")
        assert found.status == 200, found.body
        whole = found.data
        assert 1 < len(whole) < 60
        assert await walk(client, f"{query}&sort=-day&fields=id", [3]) == whole


@ensureDeferred
async def test_the_meta_has_the_cursors_and_the_links(client: Client) -> None:
    await things(client, 5)
    found = await page(client, "sort=name&limit=2&fields=id&meta=*")
    meta = found.json["meta"]
    assert meta["total_count"] == meta["filter_count"] == 5
    assert meta["result_count"] == 2
    assert not {"page", "page_count", "offset", "limit"} & set(meta)
    assert meta["previous_cursor"] is None
    assert meta["links"]["previous"] is None
    second = await client.get(meta["links"]["next"].partition(f"/{client.project}/")[2].join(["~/", ""]))
    assert len(second.data) == 2
    links = second.json["meta"]["links"]
    back = await client.get("~/" + links["previous"].partition(f"/{client.project}/")[2])
    assert back.data == found.data
    assert "cursor=&" in links["first"] + "&"
    # Without meta, the cursors are there all the same.
    assert set((await page(client, "limit=2")).json["meta"]) == {"next_cursor", "previous_cursor", "links"}


@ensureDeferred
async def test_a_cursor_holds_for_its_own_list_only(client: Client) -> None:
    await things(client, 10)
    await client.collection("others", field("name"))
    await client.post("~/items/others", [{"name": "a"}, {"name": "b"}])
    cursor = (await page(client, "sort=name&limit=2")).json["meta"]["next_cursor"]
    for query in (
        f"things?sort=-name&cursor={cursor}",
        f"things?cursor={cursor}",
        f"things?sort=name,size&cursor={cursor}",
        f"others?sort=name&cursor={cursor}",
        f"things?sort=name&cursor={cursor}x",
        f"things?sort=name&cursor={cursor[:-2]}",
        f"things?sort=name&cursor={'B' if cursor[0] == 'A' else 'A'}{cursor[1:]}",
        "things?sort=name&cursor=x",
        f"things?cursor={quote('é')}",
        "things?cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "things?cursor=&offset=1",
        "things?cursor=&page=2&limit=2",
        "things?cursor=&sort=?",
        "things?cursor=&single=1",
        "things?cursor=&limit=0",
        "things?cursor=&aggregate[count]=*",
        "things?cursor=&export=json",
        f"things?cursor=&sort={','.join(['name', 'size', 'price', 'ratio', 'day', 'moment', 'flag', 'other'])}",
    ):
        found = await client.get(f"~/items/{query}")
        assert (found.status, found.code) == (422, 4), query
    assert (await client.get("~/items/things/1?cursor=x&fields=id")).status == 422


@ensureDeferred
async def test_a_value_that_is_too_long_for_a_cursor_is_refused_by_name(client: Client) -> None:
    await client.collection("things", field("name", "string", "TEXT", None))
    await client.post("~/items/things", [{"name": "a" * 1000}, {"name": "b" * 1001}])
    assert len((await page(client, "sort=name&limit=1")).data) == 1
    found = await client.get("~/items/things?sort=-name&limit=1&cursor=")
    assert (found.status, found.code) == (422, 4)
    assert '"name"' in found.json["error"]["message"]


@ensureDeferred
async def test_every_cursor_fits_into_a_url(client: Client) -> None:
    """A cursor that is given is one that is taken, whatever the characters of the values take in it."""
    names = [f"name{number}" for number in range(7)]
    await client.collection("things", *(field(name, "string", "TEXT", None) for name in names))
    session = Session(client.backend.projects.get(client.project).database)
    outcomes = set()
    for character in ("a", '"', "\x01", "\u00e9", "\u65e5", "\U0001f600"):
        await session.query("TRUNCATE things")
        await client.post("~/items/things?fields=id", [dict.fromkeys(names, character * 1000) for _ in range(2)])
        for number in range(1, 8):
            query = f"things?fields=id&limit=1&sort={','.join(names[:number])}"
            first = await client.get(f"~/items/{query}&cursor=")
            outcomes.add(first.status)
            if first.status == 200:
                assert (await client.get(f"~/items/{query}&cursor={first.json['meta']['next_cursor']}")).status == 200
            else:
                assert (first.status, first.code) == (422, 4)
                assert "too long together" in first.json["error"]["message"]
    assert outcomes == {200, 422}


@ensureDeferred
async def test_a_page_that_would_be_large_has_fewer_items(client: Client) -> None:
    await client.collection("things", field("name", "string", "MEDIUMTEXT", None))
    for _ in range(8):
        assert (await client.post("~/items/things?fields=id", [{"name": "x" * 1_000_000} for _ in range(3)])).status == 200
    first = await page(client, "limit=20")
    assert 0 < len(first.data) < 20
    assert len(await walk(client, "limit=20&fields=*", [20])) == 24


@ensureDeferred
async def test_pages_of_a_limited_role_hold_what_it_may_see(client: Client) -> None:
    """A masked field counts as NULL where it is hidden, for the order and for the cursor."""
    status = {"a": {"name": "A"}, "b": {"name": "B"}}
    await client.collection(
        "things",
        {"field": "status", "type": "status", "datatype": "VARCHAR", "length": 20, "options": {"status_mapping": status}},
        field("size", "integer", "INT", 11),
        field("secret", "integer", "INT", 11),
    )
    await client.post("~/items/things", [{"status": "ab"[n % 2], "size": n % 4, "secret": n % 3} for n in range(24)])
    role = (await client.post("~/roles", {"name": "Reader"})).data["id"]
    token = "reader-token"
    user = {"email": "reader@example.com", "role": role, "status": "active", "token": token, "password": "password"}
    assert (await client.post("~/users", user)).status == 200
    for each, hidden in (("a", []), ("b", ["secret"])):
        permission = {"collection": "things", "role": role, "status": each, "read": "full", "read_field_blacklist": hidden}
        assert (await client.post("~/permissions", permission)).status == 200
    for sort in ("size", "-size", "secret", "-secret,size", "size,-secret"):
        asked = await client.get(f"~/items/things?sort={sort}&limit=-1", token=token)
        assert asked.status == 200
        assert len(asked.data) == 24
        assert await walk(client, f"sort={sort}", [5], token=token) == asked.data, sort
    nothing = {"collection": "things", "role": role, "status": "a", "read": "full", "read_field_blacklist": ["secret"]}
    found = (await client.get(f"~/permissions?filter[collection]=things&filter[role]={role}&filter[status]=a")).data[0]["id"]
    cursor = (await page(client, "sort=secret&limit=5", token=token)).json["meta"]["next_cursor"]
    assert (await client.patch(f"~/permissions/{found}", nothing)).status == 200
    assert (await client.get(f"~/items/things?sort=secret&cursor={cursor}", token=token)).status in (403, 404)


@pytest.mark.parametrize(
    "ddl", ["name text PRIMARY KEY", "name uuid PRIMARY KEY DEFAULT gen_random_uuid()", "name numeric PRIMARY KEY"]
)
@ensureDeferred
async def test_keys_of_other_types_end_the_order(client: Client, ddl: str) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    await session.query(f"CREATE TABLE things ({ddl}, size integer)")
    key = "md5(n::text)::uuid" if "uuid" in ddl else "n * 1.5" if "numeric" in ddl else "repeat('a', n %% 7) || chr(60 + n)"
    await session.query(f"INSERT INTO things SELECT {key}, n %% 3 FROM generate_series(1, 40) AS n")
    whole = (await client.get("~/items/things?sort=-size&limit=-1")).data
    assert len(whole) == 40
    assert await walk(client, "sort=-size", [7]) == whole


@ensureDeferred
async def test_a_list_without_a_unique_order_has_no_cursor(client: Client) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    await session.query("CREATE VIEW things AS SELECT n, n %% 2 AS size FROM generate_series(1, 5) AS n")
    found = await client.get("~/items/things?cursor=&sort=n")
    assert (found.status, found.code) == (422, 4)
    assert '"things"' in found.json["error"]["message"]


@ensureDeferred
async def test_no_cursor_contains_a_key_that_the_caller_may_not_see(client: Client) -> None:
    """Cursors contain the key, readable by anyone who decodes them. For a caller who may not see it, items have no key."""
    status = {"a": {"name": "A"}, "b": {"name": "B"}}
    mapping = {"field": "status", "type": "status", "datatype": "VARCHAR", "length": 20, "options": {"status_mapping": status}}
    await client.collection("things", mapping, field("name"))
    await client.post("~/items/things", [{"status": "ab"[n % 2], "name": "x"} for n in range(6)])
    session = Session(client.backend.projects.get(client.project).database)
    await session.query("CREATE VIEW keyless AS SELECT name FROM things")
    without = (await client.get("~/items/keyless?cursor=")).json["error"]
    role = (await client.post("~/roles", {"name": "Reader"})).data["id"]
    user = {"email": "reader@example.com", "role": role, "status": "active", "token": "reader-token", "password": "password"}
    assert (await client.post("~/users", user)).status == 200
    for each, hidden in (("a", []), ("b", ["id"])):
        permission = {"collection": "things", "role": role, "status": each, "read": "full", "read_field_blacklist": hidden}
        assert (await client.post("~/permissions", permission)).status == 200
    for token in ("reader-token", None):
        for query in ("cursor=", "cursor=&sort=name", "cursor=&sort=-name&fields=name&limit=2"):
            found = await client.get(f"~/items/things?{query}", token=token)
            if token is None:
                assert found.status in (401, 403), query
                continue
            assert (found.status, found.code) == (422, 4), query
            assert found.json["error"]["message"] == without["message"].replace("keyless", "things")
            assert "id" not in found.json["error"]["message"].split()
    # The list without a cursor stays, and so does that of callers who may see the key.
    assert len((await client.get("~/items/things?sort=name", token="reader-token")).data) == 6
    assert len((await page(client, "sort=name&limit=2")).data) == 2


@ensureDeferred
async def test_no_cursor_contains_a_credential(client: Client) -> None:
    """Cursors are parts of URLs, which logs and browsers keep."""
    await client.collection("things", field("pin", "hash", "VARCHAR", 200), field("name"))
    await client.post("~/items/things", [{"pin": str(n), "name": "x"} for n in range(3)])
    for path in ("users?sort=token", "users?sort=-2fa_secret,email"):
        assert (await client.get(f"~/{path}")).status == 422, path
    for path in ("items/things?sort=pin", "items/things?sort=name,-pin"):
        assert (await client.get(f"~/{path}")).status == 200, path
        found = await client.get(f"~/{path}&cursor=")
        assert (found.status, found.code) == (422, 4), path
    assert (await client.get("~/users?sort=email&cursor=")).status == 200
