"""Reading beyond the contract: limits, entity tags, groups."""

from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve
from openapi_spec_validator import validate
from pytest_twisted import ensureDeferred

from directus_tx.config import LimitSettings
from directus_tx.db.session import Session
from directus_tx.http.app import App
from tests.conftest import Client, field


@ensureDeferred
async def test_an_answer_that_is_known_is_304(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "a"})
    first = await client.get("~/items/things")
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = await client.get("~/items/things", headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    packed = await client.get("~/items/things", headers={"If-None-Match": tag, "Accept-Encoding": "gzip"})
    assert packed.status == 304
    await client.patch("~/items/things/1", {"name": "b"})
    changed = await client.get("~/items/things", headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["etag"] != tag


@ensureDeferred
async def test_answers_to_users_are_not_stored_by_caches(client: Client) -> None:
    assert (await client.get("~/users/me")).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await client.get("~/", token=None)).headers


@ensureDeferred
async def test_groups_give_one_item_for_each_value(client: Client) -> None:
    await client.collection("things", field("colour"), field("size", "integer", "INT", 11))
    rows = [("red", 1), ("Red", 2), ("blue", 1), (None, 1), ("blue", 2)]
    await client.post("~/items/things", [{"colour": colour, "size": size} for colour, size in rows])
    found = await client.get("~/items/things?groups=colour&fields=id,colour&meta=filter_count,total_count")
    assert found.data == [{"id": 1, "colour": "red"}, {"id": 3, "colour": "blue"}, {"id": 4, "colour": None}]
    assert found.json["meta"] == {"total_count": 5, "filter_count": 3}
    assert len((await client.get("~/items/things?groups=colour,size")).data) == 5
    assert (await client.get("~/items/things?groups=nope")).code == 202


async def nodes(client: Client, relations: int) -> list[str]:
    """A collection with relations to itself, each with its list on the other side, and three rows in a chain."""
    parents = [f"parent{n}" for n in range(relations)]
    lists = [{"field": f"children{n}", "type": "o2m"} for n in range(relations)]
    await client.collection("nodes", field("name"), *(field(name, "m2o", "INT", 11) for name in parents), *lists)
    for n, name in enumerate(parents):
        sides = {"collection_many": "nodes", "field_many": name, "collection_one": "nodes", "field_one": f"children{n}"}
        await client.post("~/relations", sides)
    rows = [{"name": "a"}, {"name": "b", **dict.fromkeys(parents, 1)}, {"name": "c", **dict.fromkeys(parents, 2)}]
    await client.post("~/items/nodes?fields=id", rows)
    return parents


def limit(client: Client, **limits: int) -> None:
    """Sets the limits of the server."""
    app: App = client.app
    app.services = evolve(app.services, items=evolve(client.backend.items, limits=LimitSettings(**limits)))


@ensureDeferred
async def test_what_is_too_much_is_refused_by_the_name_of_its_limit(client: Client) -> None:
    await nodes(client, 1)
    limit(client, max_depth=2, max_conditions=3, max_rows=2, max_members=3, max_values=2)
    for query, name in (
        ("fields=parent0.parent0.parent0.name", "limits.max_depth"),
        ("filter[parent0.parent0.parent0.name]=x", "limits.max_depth"),
        ("filter[id][0][eq]=1&filter[id][1][eq]=1&filter[id][2][eq]=1&filter[id][3][eq]=1", "limits.max_conditions"),
        ("filter[id][in]=1,2,3", "limits.max_values"),
        ("status=1,2,3,4", "limits.max_members"),
        ("aggregate[count]=*,id,name,parent0", "limits.max_members"),
        ("limit=-1", "limits.max_rows"),
        ("limit=3", "limits.max_rows"),
    ):
        answer = await client.get("~/items/nodes?" + query)
        assert (answer.status, answer.code) == (422, 4), query
        assert name in answer.json["error"]["message"]
    assert (await client.get("~/items/nodes?limit=2&fields=parent0.parent0.name")).status == 200
    assert (await client.get("~/items/nodes?limit=-1&filter[id][lt]=3")).status == 200


@ensureDeferred
async def test_postgresql_takes_as_many_columns_as_are_allowed(client: Client) -> None:
    numbers = [field(f"n{n}", "integer", "INT", 11) for n in range(740)]
    await client.collection("wide", *numbers, field("a", "m2o", "INT", 11), field("b", "m2o", "INT", 11))
    for name in "ab":
        await client.post("~/relations", {"collection_many": "wide", "field_many": name, "collection_one": "wide"})
    await client.post("~/items/wide?fields=id", {"n1": 5})
    await client.post("~/items/wide?fields=id", {"a": 1})
    sort = "sort=id," + ",".join(f"n{n}" for n in range(99))
    found = await client.get(f"~/items/wide?fields=*,a.*&{sort}")
    assert (len(found.data[1]["a"]), found.data[1]["a"]["n1"]) == (743, 5)
    refused = await client.get(f"~/items/wide?fields=*,a.*,b.*&{sort}")
    assert (refused.status, refused.code) == (422, 4)
    assert "limits.max_columns" in refused.json["error"]["message"]


@ensureDeferred
async def test_breadth_is_refused_before_anything_is_read_or_written(client: Client) -> None:
    parents = await nodes(client, 4)
    for stars in ("*.*.*.*", ".".join("*" * 10), ",".join(f"{name}.*.*.*" for name in parents)):
        for path in ("", "/1", "/1,2", "/99"):
            for more in ("", "&limit=-1", "&export=csv", "&export=json", "&single=1", "&meta=*"):
                answer = await client.get(f"~/items/nodes{path}?fields={stars}{more}")
                assert (answer.status, answer.code) == (422, 4), (stars, path, more)
                assert "limits.max_" in answer.json["error"]["message"]
        created = await client.post(f"~/items/nodes?fields={stars}", {"name": "d"})
        changed = await client.patch(f"~/items/nodes/1?fields={stars}", {"name": "d"})
        assert (created.status, changed.status) == (422, 422)
    assert (await client.get("~/items/nodes?fields=name")).data == [{"name": name} for name in "abc"]


@ensureDeferred
async def test_many_relations_are_shown_whichever_way_they_are_joined(client: Client) -> None:
    parents = await nodes(client, 6)
    lists = [f"children{n}" for n in range(6)]
    for number in (1, 4, 5, 6):
        some = parents[:number]
        fields = ",".join(f"{name}.name,{name}.parent0.name" for name in some)
        above = {"a": None, "b": {"name": "a", "parent0": None}, "c": {"name": "b", "parent0": {"name": "a"}}}
        for order, names in (("id", "abc"), ("-name", "cba"), ("parent0,-id", "bca")):
            expected = [{"name": name, **dict.fromkeys(some, above[name])} for name in names]
            path = f"~/items/nodes?fields=name,{fields}&sort={order}"
            assert (await client.get(path)).data == expected
            assert (await client.get(path + "&limit=-1")).data == expected
            assert (await client.get(path + "&export=json")).json == expected
            assert (await client.get(path + "&limit=1&offset=1")).data == expected[1:2]
            assert (await client.get(path + "&filter[parent1.name]=b")).data == [item for item in expected if item["name"] == "c"]
        random = await client.get(f"~/items/nodes?fields=name,{fields}&sort=?")
        assert sorted(item["name"] for item in random.data) == ["a", "b", "c"]
        one = await client.get(f"~/items/nodes/3?fields=name,{fields}")
        assert one.data == {"name": "c", **dict.fromkeys(some, above["c"])}
        # The tag of the item is the same with joins and without, and guards its writes.
        tag = one.headers["etag"]
        assert (await client.patch("~/items/nodes/3", {"name": "c"}, headers={"If-Match": tag})).status == 200
        within = ",".join(f"children0.{name}.name" for name in some)
        deep = "deep[children0][filter][parent1.name]=a"
        below = await client.get(f"~/items/nodes/1?fields=children0.name,{within}&{deep}")
        assert below.data == {"children0": [{"name": "b", **{name: {"name": "a"} for name in some}}]}
    conditions = [f"filter[{name}.name]=b" for name in parents] + [f"filter[{name}][has]=0" for name in lists]
    found = await client.get(f"~/items/nodes?fields=name,{fields}&{'&'.join(conditions)}&meta=*")
    assert found.data == [{"name": "c", **dict.fromkeys(some, above["c"])}]
    assert found.json["meta"]["filter_count"] == 1
    counted = await client.get(f"~/items/nodes?aggregate[count]=*&{'&'.join(conditions)}")
    assert counted.data == [{"count": {"*": 1}}]
    # What a statement sets for itself ends with it, also on the connection that has run it.
    session = Session(client.backend.projects.get(client.project).database)
    for _ in range(20):
        assert await session.query("SHOW join_collapse_limit") == [("8",)]
    everything = (await client.get("~/items/nodes/2?fields=*.*")).data
    assert [everything[name]["name"] for name in parents] == ["a"] * 6
    assert [[child["id"] for child in everything[name]] for name in lists] == [[3]] * 6


@ensureDeferred
async def test_relations_named_beside_deeper_ones_open_in_lists_exports_and_answers_to_writes(client: Client) -> None:
    await client.collection("authors", field("name"))
    await client.collection("books", field("title"), field("author", "m2o", "INT", 11), field("prequel", "m2o", "INT", 11))
    for name, target in (("author", "authors"), ("prequel", "books")):
        await client.post("~/relations", {"collection_many": "books", "field_many": name, "collection_one": target})
    fields = "fields=title,prequel,author.name"
    first = await client.post(f"~/items/books?{fields}", {"title": "a", "author": {"name": "Ada"}})
    assert first.data == {"title": "a", "author": {"name": "Ada"}, "prequel": None}
    second = await client.post(f"~/items/books?{fields}", [{"title": "b", "author": 1, "prequel": 1}])
    assert second.data == [{"title": "b", "author": {"name": "Ada"}, "prequel": {"id": 1}}]
    assert (await client.get(f"~/items/books?{fields}")).data == [first.data, *second.data]
    assert (await client.get(f"~/items/books/2?{fields}")).data == second.data[0]
    exported = await client.get(f"~/items/books?{fields}&export=csv")
    assert exported.body.decode().splitlines() == ["title,prequel.id,author.name", "a,,Ada", "b,1,Ada"]


@ensureDeferred
async def test_aggregates_count_and_sum_by_groups(client: Client) -> None:
    await client.collection(
        "sales",
        field("region"),
        field("amount", "decimal", "DECIMAL", "8,2"),
        field("day", "date", "DATE", None),
    )
    rows = [("north", 1.5, "2026-01-01"), ("North", 2, "2026-01-03"), ("south", 10, "2026-01-02"), (None, None, None)]
    await client.post("~/items/sales", [{"region": r, "amount": a, "day": d} for r, a, d in rows])
    whole = "aggregate[count]=*,amount&aggregate[sum]=amount&aggregate[max]=day&aggregate[countDistinct]=region"
    assert (await client.get(f"~/items/sales?{whole}")).data == [
        {
            "count": {"*": 4, "amount": 3},
            "sum": {"amount": 13.5},
            "max": {"day": "2026-01-03"},
            "countDistinct": {"region": 2},
        }
    ]
    grouped = await client.get("~/items/sales?aggregate[sum]=amount&aggregate[avg]=amount&groupby=region&sort=-region&meta=*")
    assert grouped.data == [
        {"region": "south", "sum": {"amount": 10}, "avg": {"amount": 10}},
        {"region": "North", "sum": {"amount": 3.5}, "avg": {"amount": 1.75}},
        {"region": None, "sum": {"amount": None}, "avg": {"amount": None}},
    ]
    assert grouped.json["meta"]["result_count"] == 3
    whole = await client.get("~/items/sales?aggregate[sum]=id,amount")
    assert b'"id":10,' in whole.body
    filtered = "~/items/sales?aggregate[count]=*&groupby=region&filter[amount][gt]=1.7&limit=1"
    assert (await client.get(filtered)).data == [{"region": "North", "count": {"*": 1}}]


@ensureDeferred
async def test_a_page_far_past_the_end_is_empty(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": "a"}, {"name": "b"}])
    most = 10**15 - 1
    for paging in (f"limit={most}&page={most}", f"limit={most}&offset={most}", f"limit=1&page={most}", "limit=1&offset=2"):
        answer = await client.get(f"~/items/things?{paging}&meta=*")
        assert (answer.status, answer.data) == (200, []), paging
        assert answer.json["meta"]["filter_count"] == 2
        assert (await client.get(f"~/items/things?{paging}&aggregate[count]=*&groupby=name")).data == []


@ensureDeferred
async def test_aggregates_that_make_no_sense_are_refused(client: Client) -> None:
    await client.collection("sales", field("region"))
    for query, code in (
        ("aggregate[median]=id", 214),
        ("aggregate[sum]=region", 12),
        ("aggregate[sum]=*", 12),
        ("aggregate[sum]=nope", 202),
        ("aggregate[count]=*&groupby=nope", 202),
        ("aggregate[count]=*&groupby=region&sort=id", 202),
        ("aggregate=x", 4),
    ):
        answer = await client.get(f"~/items/sales?{query}")
        assert (answer.status, answer.code) == (422, code), query
    assert (await client.get("~/users?aggregate[max]=password")).code == 215


@ensureDeferred
async def test_long_lists_without_a_limit_are_whole(client: Client) -> None:
    await client.collection("parents", field("name"), {"field": "children", "type": "o2m"})
    await client.collection("children", field("parent", "m2o", "INT", 11))
    relation = {"collection_many": "children", "field_many": "parent", "collection_one": "parents", "field_one": "children"}
    await client.post("~/relations", relation)
    await client.post("~/items/parents?fields=id", [{"name": f"n{n}"} for n in range(2500)])
    await client.post("~/items/children?fields=id", [{"parent": n % 2500 + 1} for n in range(5000)])
    found = await client.get("~/items/parents?limit=-1&fields=id,name,children.id&sort=-id")
    assert [item["id"] for item in found.data] == list(range(2500, 0, -1))
    assert found.data[0] == {"id": 2500, "name": "n2499", "children": [{"id": 2500}, {"id": 5000}]}
    assert len((await client.get("~/items/parents?limit=-1&filter[id][gt]=2400&fields=id")).data) == 100


@ensureDeferred
async def test_exports_are_downloads(client: Client) -> None:
    await client.collection("authors", field("name"))
    await client.collection(
        "books", field("title"), field("tags", "array"), field("sold", "boolean", "TINYINT", 1), field("author", "m2o", "INT", 11)
    )
    await client.post("~/relations", {"collection_many": "books", "field_many": "author", "collection_one": "authors"})
    await client.post("~/items/authors", {"name": "Ada"})
    await client.post(
        "~/items/books", [{"title": 'A "title", quoted', "tags": ["x", "y"], "sold": True, "author": 1}, {"title": None}]
    )
    csv = await client.get("~/items/books?export=csv&fields=id,title,tags,sold,author.name")
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.headers["content-disposition"] == "attachment; filename*=UTF-8''books.csv"
    assert csv.body.decode().splitlines() == [
        "id,title,tags,sold,author.name",
        '1,"A ""title"", quoted","[""x"",""y""]",true,Ada',
        "2,,[],false,",
    ]
    exported = await client.get("~/items/books?export=json&fields=id,author.name&filter[id]=1")
    assert exported.json == [{"id": 1, "author": {"name": "Ada"}}]
    assert (await client.get("~/items/books?export=json&filter[id]=99")).json == []
    assert (await client.get("~/items/books?export=csv&filter[id]=99&fields=id")).body == b"id\r\n"
    for query, code in (("export=xml", 4), ("export=csv&fields=nope", 202)):
        assert (await client.get(f"~/items/books?{query}")).code == code
    assert (await client.get("~/items/books?export=csv", token=None)).status == 401


@ensureDeferred
async def test_deep_narrows_each_list_by_itself(client: Client) -> None:
    await client.collection("authors", field("name"), {"field": "books", "type": "o2m"})
    await client.collection(
        "books",
        field("title"),
        field("pages", "integer", "INT", 11),
        field("author", "m2o", "INT", 11),
        {"field": "notes", "type": "o2m"},
    )
    await client.collection("notes", field("text"), field("book", "m2o", "INT", 11))
    names = ("collection_many", "field_many", "collection_one", "field_one")
    for row in (("books", "author", "authors", "books"), ("notes", "book", "books", "notes")):
        await client.post("~/relations", dict(zip(names, row, strict=True)))
    await client.post("~/items/authors", [{"name": "Ada"}, {"name": "Grace"}, {"name": "Nobody"}])
    books = [("a", 10, 1), ("b", 20, 1), ("c", 30, 1), ("d", 10, 2), ("e", 20, 2)]
    await client.post("~/items/books", [{"title": t, "pages": p, "author": a} for t, p, a in books])
    await client.post("~/items/notes", [{"text": f"{n}", "book": n % 2 + 1} for n in range(6)])
    path = "~/items/authors?fields=name,books.title&"
    assert (await client.get(path + "deep[books][limit]=2&deep[books][sort]=-pages")).data == [
        {"name": "Ada", "books": [{"title": "c"}, {"title": "b"}]},
        {"name": "Grace", "books": [{"title": "e"}, {"title": "d"}]},
        {"name": "Nobody", "books": []},
    ]
    assert (await client.get(path + "deep[books][filter][pages][gt]=10&deep[books][limit]=1&deep[books][offset]=1")).data == [
        {"name": "Ada", "books": [{"title": "c"}]},
        {"name": "Grace", "books": []},
        {"name": "Nobody", "books": []},
    ]
    nested = "~/items/authors?fields=books.notes.text&deep[books][filter][title]=a&deep[books.notes][limit]=1&filter[id]=1"
    assert (await client.get(nested)).data == [{"books": [{"notes": [{"text": "0"}]}]}]
    # The same shape of query with other values is the same plan.
    assert (await client.get(path + "deep[books][limit]=1&deep[books][sort]=-pages&filter[id]=2")).data == [
        {"name": "Grace", "books": [{"title": "e"}]}
    ]
    for query, code in (
        ("deep[nope][limit]=1", 202),
        ("deep[books][page]=1", 4),
        ("deep=x", 4),
        ("deep[books][filter][nope]=1", 202),
        ("deep[books][sort]=nope", 202),
    ):
        assert (await client.get(path + query)).code == code, query


@ensureDeferred
async def test_the_api_describes_itself_in_valid_openapi(client: Client) -> None:
    await client.collection(
        "odd name%", field("title", note="Shown above"), field("big", "integer", "BIGINT", 20), {"field": "parts", "type": "o2m"}
    )
    await client.collection("parts", field("whole", "m2o", "INT", 11), field("extra", "json", "TEXT", None))
    relation = {"collection_many": "parts", "field_many": "whole", "collection_one": "odd name%", "field_one": "parts"}
    await client.post("~/relations", relation)
    found = (await client.get("~/specs/oas")).json
    validate(found)
    schema = found["components"]["schemas"]["odd.20name.25"]
    assert schema["properties"]["title"] == {"type": ["string", "null"], "maxLength": 200, "description": "Shown above"}
    assert schema["properties"]["big"]["type"] == ["string", "null"]
    assert set(found["paths"]["/items/parts"]) == {"get", "post", "patch"}
    assert set(found["paths"]["/folders/{ids}"]) == {"get", "patch", "delete"}
    assert "password" not in found["components"]["schemas"]["directus_users"]["properties"]
    public = (await client.get("~/specs/oas", token=None)).json
    validate(public)
    assert not [path for path in public["paths"] if path.startswith(("/items", "/users"))]
    assert set(public["components"]["schemas"]) == {"Answer.Error", "Answer.Meta"}


@ensureDeferred
async def test_a_search_index_needs_an_extension_and_says_so(client: Client) -> None:
    await client.collection("things", field("name"))
    answer = await client.patch("~/collections/things", {"search_index": True})
    assert (answer.status, answer.code) == (422, 4)
    assert "pg_trgm" in answer.json["error"]["message"]
    assert (await client.get("~/collections/things")).data["search_index"] is False
    assert (await client.patch("~/collections/things", {"search_index": "yes"})).status == 422


@pytest.mark.parametrize(("datatype", "length"), [("INT", 11), ("TINYINT", 4), ("VARCHAR", 20)])
@ensureDeferred
async def test_statuses_of_every_datatype_are_listed_by_the_parameter_status(client: Client, datatype: str, length: Any) -> None:
    mapping = {"status_mapping": {"1": {"name": "One"}, "2": {"name": "Two"}, "3": {"name": "Gone", "soft_delete": True}}}
    await client.collection("things", field("status", "status", datatype, length, options=mapping, signed=True))
    await client.post("~/items/things", [{"status": status} for status in (1, 2, 3)])
    for asked, found in (("1", 1), ("1,3", 2), ("*", 3), ("", 2), ("x", 0), ("published,2", 1), ("2,²", 1), ("1e99", 0)):
        answer = await client.get(f"~/items/things?fields=status&status={quote(asked)}")
        assert answer.status == 200, (asked, answer.body)
        assert len(answer.data) == found, asked


@ensureDeferred
async def test_the_setting_bounds_the_compiled_queries(client: Client) -> None:
    """Anonymous filters of many conditions, each of another shape."""
    project = client.backend.projects.get(client.project)
    project._plan_cache_size = 500_000
    await client.collection("things", field("name"))
    assert (await client.post("~/permissions", {"collection": "things", "role": 2, "read": "full"})).status == 200
    for number in range(60):
        conditions = [f"filter[{'name' if number >> bit & 1 else 'id'}][{bit}][eq]=1" for bit in range(60)]
        answer = await client.get("~/items/things?" + "&".join(conditions), token=None)
        assert answer.status == 200, answer.body
        snapshot = project.current()
        assert snapshot is not None
        assert snapshot.plans.most == 500_000
        assert 0 < snapshot.plans.weight <= 500_000
    assert len(snapshot.plans) < 60


@ensureDeferred
async def test_a_field_to_sort_by_that_there_is_not_is_an_error_with_any_number_of_keys(client: Client) -> None:
    ids = [(await client.post("~/roles", {"name": name})).data["id"] for name in ("one", "two")]
    for path in ("~/roles", f"~/roles/{ids[0]}", f"~/roles/{ids[0]},{ids[1]}"):
        for sort in ("nope", "-nope", "name,nope"):
            answer = await client.get(f"{path}?sort={sort}")
            assert (answer.status, answer.json["error"]["code"]) == (422, 202), (path, sort, answer.body)
        assert (await client.get(f"{path}?sort=-name")).status == 200
