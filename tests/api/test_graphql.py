"""GraphQL: what it reads and writes, with which statements, what it refuses, and what each role finds in its schema."""

import hashlib
import json
from typing import Any

import pytest
from attrs import evolve
from graphql import get_introspection_query
from pytest_twisted import ensureDeferred

from directus_tx.compile import read
from directus_tx.compile.read import compile_read
from directus_tx.config import Settings
from directus_tx.db.session import Session
from directus_tx.graphql import planning, shaping
from directus_tx.graphql.definitions import WITHOUT_ROOT, WRITTEN
from directus_tx.http.endpoints.system import ADDRESSES
from tests.conftest import TOKEN, Client, Reply, field


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return evolve(settings, graphql=evolve(settings.graphql, mutations="on", max_aliases=60, max_items=100_000))


async def ask(client: Client, query: str, *, token: str | None = TOKEN, **variables: Any) -> Any:
    """Returns the answer of a document."""
    reply = await client.post("~/gql", {"query": query, "variables": variables}, token=token)
    assert reply.status == 200, reply.body
    return reply.json


async def data(client: Client, query: str, **options: Any) -> Any:
    """Returns the data of a document that has no errors."""
    answer = await ask(client, query, **options)
    assert "errors" not in answer, answer
    return answer["data"]


async def refusal(client: Client, query: str, **options: Any) -> str:
    """Returns the message of the first error of a document that is refused, which has no data."""
    answer = await ask(client, query, **options)
    assert "data" not in answer, answer
    message: str = answer["errors"][0]["message"]
    return message


async def library(client: Client) -> None:
    """Makes authors with books, which have pages."""
    status = {"status_mapping": {"live": {"name": "Live"}, "gone": {"name": "Gone", "soft_delete": True}}}
    await client.collection("authors", field("name", required=True), field("books", "o2m", None, None))
    await client.collection(
        "books",
        field("status", "status", options=status, default_value="live"),
        field("title"),
        field("year", "integer", "INT", 11),
        field("price", "decimal", "DECIMAL", "10,2"),
        field("secret"),
        field("author", "m2o", "INT", 11),
        field("owner", "owner", "INT", 11),
        field("pages", "o2m", None, None),
    )
    await client.collection("pages", field("number", "integer", "INT", 11), field("book", "m2o", "INT", 11))
    for many, name, one, alias in (("books", "author", "authors", "books"), ("pages", "book", "books", "pages")):
        answer = await client.post(
            "~/relations", {"collection_many": many, "field_many": name, "collection_one": one, "field_one": alias}
        )
        assert answer.status == 200, answer.body
    await client.post("~/items/authors", [{"name": name} for name in ("Ada", "Bob", "Cid")])
    books = [
        {"title": f"T{n}", "year": 2000 + n, "price": n / 2, "secret": f"s{n}", "author": n % 3 + 1, "pages": [{"number": n}] * 2}
        for n in range(1, 10)
    ]
    answer = await client.post("~/items/books", books)
    assert answer.status == 200, answer.body


async def role(client: Client, *permissions: dict[str, Any]) -> str:
    """Makes a role with these permissions and a user of it. Returns the token of the user."""
    found = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    for each in permissions:
        assert (await client.post("~/permissions", {"role": found, **each})).status == 200
    user = {"first_name": "R", "last_name": "R", "email": "r@example.com", "password": "p", "role": found, "status": "active"}
    assert (await client.post("~/users", {**user, "token": "reader-token"})).status == 200
    return "reader-token"


# --- reading


@ensureDeferred
async def test_a_document_shows_what_the_rest_api_shows(client: Client) -> None:
    await library(client)
    found = await data(
        client, "{books(limit:-1){data{id title year price author{id name} pages{id number} owner{email}} meta{total_count}}}"
    )
    fields = "id,title,year,price,author.id,author.name,pages.id,pages.number,owner.email"
    rest = (await client.get(f"~/items/books?limit=-1&fields={fields}&meta=total_count")).json
    assert found["books"]["meta"] == rest["meta"]
    expected = [
        {
            **each,
            "id": str(each["id"]),
            "author": {**each["author"], "id": str(each["author"]["id"])},
            "pages": [{**page, "id": str(page["id"])} for page in each["pages"]],
        }
        for each in rest["data"]
    ]
    assert found["books"]["data"] == expected


@ensureDeferred
async def test_lists_take_arguments_also_several_times(client: Client) -> None:
    await library(client)
    document = """
    query Q($first: Int) {
      authors {
        data {
          name
          newest: books(sort: [year_desc], limit: $first) { title pages(limit: 1) { number } }
          oldest: books(sort: [year_asc], limit: $first) { title all: pages { number } one: pages(limit: 1) { number } }
          cheap: books(filter: {price_lt: 2}) { title }
          books { title }
        }
      }
    }"""
    found = (await data(client, document, first=1))["authors"]["data"]
    assert found[0] == {
        "name": "Ada",
        "newest": [{"title": "T9", "pages": [{"number": 9}]}],
        "oldest": [{"title": "T3", "all": [{"number": 3}, {"number": 3}], "one": [{"number": 3}]}],
        "cheap": [{"title": "T3"}],
        "books": [{"title": "T3"}, {"title": "T6"}, {"title": "T9"}],
    }
    assert [each["newest"][0]["title"] for each in found] == ["T9", "T7", "T8"]
    assert [len(each["newest"]) for each in (await data(client, document, first=2))["authors"]["data"]] == [2, 2, 2]


@ensureDeferred
async def test_lists_of_related_items_take_search_and_status(client: Client) -> None:
    await library(client)
    await client.patch("~/items/books/3", {"status": "gone"})
    for arguments, titles in (
        ("", ["T6", "T9"]),
        ('(status: ["*"])', ["T3", "T6", "T9"]),
        ('(status: ["gone"])', ["T3"]),
        ('(status: ["gone", "live"], sort: [year_desc], limit: 2)', ["T9", "T6"]),
        ("(status: [])", []),
        ('(search: "t9")', ["T9"]),
        ('(search: "T", limit: 1, offset: 1)', ["T9"]),
        ('(search: "t3", status: ["*"])', ["T3"]),
        ('(search: "%")', []),
        ('(search: "", filter: {or: [{title_eq: "T6"}, {title_eq: "T7"}]})', ["T6"]),
        ('(search: "9", filter: {or: [{title_eq: "T6"}, {title_eq: "T7"}]})', []),
    ):
        found = await data(client, f"{{authors(id: 1){{data{{books{arguments}{{title}}}}}}}}")
        assert [each["title"] for each in found["authors"]["data"][0]["books"]] == titles, arguments
    # Two lists, each with its own search and statuses, as variables.
    document = """query($text: String, $statuses: [String!]) {
      authors {data {found: books(search: $text) {title} some: books(status: $statuses) {title pages(search: "77") {number}}}}
    }"""
    found = await data(client, document, text="T7", statuses=["gone"])
    assert [each["found"] for each in found["authors"]["data"]] == [[], [{"title": "T7"}], []]
    assert [each["some"] for each in found["authors"]["data"]] == [[{"title": "T3", "pages": []}], [], []]
    answer = await ask(client, "query($s: [String!]){authors{data{books(status: $s){title}}}}", s=["live"] * 20_000)
    assert "limits.max_members" in answer["errors"][0]["message"]


@ensureDeferred
async def test_statuses_that_a_role_may_not_read_are_not_in_lists(client: Client) -> None:
    await library(client)
    await client.patch("~/items/books/3", {"status": "gone"})
    reader = await role(
        client, {"collection": "authors", "read": "full"}, {"collection": "books", "read": "full", "status": "live"}
    )
    for arguments in ('(status: ["*"])', '(status: ["gone", "live"])'):
        found = await data(client, f"{{authors(id: 1){{data{{books{arguments}{{title}}}}}}}}", token=reader)
        assert found["authors"]["data"][0]["books"] == [{"title": "T6"}, {"title": "T9"}]


@ensureDeferred
async def test_the_number_of_statements_depends_on_levels_and_not_on_rows(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library(client)
    statements: list[str] = []
    query = Session.query

    async def counted(self: Session, sql: Any, *more: Any) -> Any:
        statements.append(str(sql))
        return await query(self, sql, *more)

    monkeypatch.setattr(Session, "query", counted)
    nested = "{authors{data{name books{title author{name} pages{number book{title}}}}}}"
    await data(client, nested)
    for document, number in (
        (nested, 3),
        ("{authors{data{a: books{title} b: books{year} c: books(limit: 1){title}}}}", 4),
        ("{a: books(limit: 1){data{title}} b: books(limit: 2){data{title}}}", 2),
        ('{books(filter: {author: {name_eq: "Ada"}}){data{title}}}', 1),
        ("{__typename}", 0),
        ("{authors{data{nope}}}", None),
    ):
        statements.clear()
        await ask(client, document)
        if number is not None:
            assert len(statements) == number, statements


@ensureDeferred
async def test_filters_are_trees(client: Client) -> None:
    await library(client)

    async def titles(filter: str) -> list[str]:
        found = await data(client, f"{{books(filter: {filter}){{data{{title}}}}}}")
        return [each["title"] for each in found["books"]["data"]]

    assert await titles('{year_gt: 2002, or: [{title_eq: "T3"}, {and: [{year_lt: 2006}, {price_gte: 2}]}]}') == ["T3", "T4", "T5"]
    assert await titles('{author: {name_eq: "ada"}, pages: {number_gt: 3}}') == ["T6", "T9"]
    assert await titles("{or: []}") == [f"T{n}" for n in range(1, 10)]
    assert await titles("{or: [{year_eq: 2001}, {}]}") == [f"T{n}" for n in range(1, 10)]
    assert await titles('{author_nnull: "1", pages_has: 2, year_in: "2001,2002"}') == ["T1", "T2"]
    message = (await ask(client, "query($t: String){books(filter: {title_eq: $t}){data{id}}}", t=None))["errors"][0]["message"]
    assert message == 'The value of "title_eq" in a filter is null.'
    alternatives = ", ".join(["{or: [{year_eq: 1}, {year_eq: 2}]}"] * 12)
    assert "limits.max_conditions" in await refusal(client, f"{{books(filter: {{and: [{alternatives}]}}){{data{{id}}}}}}")


@ensureDeferred
async def test_roots_take_search_status_and_sort(client: Client) -> None:
    await library(client)
    await client.patch("~/items/books/2", {"status": "gone"})
    found = await data(client, '{books(search: "t", status: ["*"], sort: [year_desc], limit: 3, offset: 6){data{title status}}}')
    assert [each["title"] for each in found["books"]["data"]] == ["T3", "T2", "T1"]
    assert [each["status"] for each in found["books"]["data"]] == ["live", "gone", "live"]


@ensureDeferred
async def test_aggregates_are_of_what_the_filter_finds(client: Client) -> None:
    await library(client)
    found = await data(
        client,
        "{books_aggregate(groupby: [author], filter: {year_gt: 2003}){group{author} count_all sum{price} min{title year} avg{year}}}",
    )
    assert found["books_aggregate"] == [
        {"group": {"author": a}, "count_all": 2, "sum": {"price": p}, "min": {"title": t, "year": y}, "avg": {"year": v}}
        for a, p, t, y, v in ((1, 7.5, "T6", 2006, 2007.5), (2, 5.5, "T4", 2004, 2005.5), (3, 6.5, "T5", 2005, 2006.5))
    ]


@ensureDeferred
async def test_directives_fragments_and_operations_choose_what_is_read(client: Client) -> None:
    await library(client)
    document = """
    query Books($with: Boolean!) { books(limit: 1) { data { ...short author @include(if: $with) { ...on Node { id } name } } } }
    query Authors { authors(limit: 1) { data { ...on AuthorsItem { name } ...on Node { ...on BooksItem { title } } } } }
    fragment short on BooksItem { title year @skip(if: $with) }"""

    async def run(name: str, **variables: Any) -> Any:
        reply = await client.post("~/gql", {"query": document, "operationName": name, "variables": variables})
        return reply.json["data"]

    with_author = {"title": "T1", "author": {"id": "2", "name": "Bob"}}
    assert await run("Books", **{"with": True}) == {"books": {"data": [with_author]}}
    assert await run("Books", **{"with": False}) == {"books": {"data": [{"title": "T1", "year": 2001}]}}
    assert await run("Authors") == {"authors": {"data": [{"name": "Ada"}]}}
    reply = await client.post("~/gql", {"query": document})
    assert "operationName" in reply.json["errors"][0]["message"]


@ensureDeferred
async def test_different_fields_cannot_be_shown_under_one_name(client: Client) -> None:
    await library(client)
    assert "aliases" in await refusal(client, "{books{data{x: title x: year}}}")
    assert "aliases" in await refusal(client, "{books(limit: 1){data{title}} books(limit: 2){data{title}}}")
    found = await data(client, "{books(limit: 1){data{title}} books(limit: 1){data{year}}}")
    assert found == {"books": {"data": [{"title": "T1", "year": 2001}]}}


@ensureDeferred
async def test_long_lists_are_whole(client: Client) -> None:
    await client.collection("rows", field("text"))
    for start in range(0, 2500, 500):
        await client.post("~/items/rows", [{"text": f"row {n}"} for n in range(start, start + 500)])
    found = await data(client, "{rows(limit: -1){a: data{id} b: data{text} meta{result_count}}}")
    assert found["rows"]["a"] == [{"id": str(n)} for n in range(1, 2501)]
    assert found["rows"]["b"] == [{"text": f"row {n}"} for n in range(2500)]
    assert found["rows"]["meta"] == {"result_count": 2500}


DOCUMENTS = (
    "{books{data{%s id title}}}",
    "{books{data{__typename %s year: title title: year a: id b: id c: price}}}",
    "{books(sort: [id_desc], limit: 4){all: data{%s author{id mine: __typename name books{of: title}} pages{nr: number id}}}}",
    "{books(id: 3){data{%s pages{id book{title pages{number} author{n: name}}}}}}",
    "{authors{data{%s name books(limit: 1, sort: [year_desc]){title first: pages{id} status}}}}",
    "{books(filter: {id_gt: 100}){data{%s title pages{id}}}}",
    "{authors(limit: -1){data{%s books{owner{id email first_name}}}}}",
    "query($on: Boolean! = true){books{data{%s title @skip(if: $on) ...more}}} fragment more on BooksItem{author{__typename}}",
)
"""Documents in which a comment can be placed."""


@ensureDeferred
async def test_the_engine_builds_the_same_objects_that_are_made_of_items(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await library(client)
    await client.post("~/items/books", {"title": "No author"})
    await client.post("~/items/authors", {"name": "No books"})

    def unexpected(*arguments: Any) -> Any:
        raise AssertionError("objects were made of items")

    with monkeypatch.context() as patch:
        patch.setattr(shaping, "_generated", unexpected)
        at_once = [await ask(client, document.replace("%s", "")) for document in DOCUMENTS]
    assert [list(each) for each in at_once] == [["data"]] * len(DOCUMENTS)
    with monkeypatch.context() as patch:
        patch.setattr(planning, "output_of", lambda selected: None)
        made = [await ask(client, document.replace("%s", "#\n")) for document in DOCUMENTS]
    assert [json.dumps(each) for each in made] == [json.dumps(each) for each in at_once]


@ensureDeferred
async def test_documents_of_one_selection_share_a_plan(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await library(client)
    compiled = []

    def counting(*arguments: Any) -> Any:
        compiled.append(arguments)
        return compile_read(*arguments)

    monkeypatch.setattr(read, "compile_read", counting)
    for year in range(2001, 2005):
        found = await data(client, f"{{books(filter: {{year_eq: {year}}}){{data{{t: title author{{name}}}}}}}}")
        assert [each["t"] for each in found["books"]["data"]] == [f"T{year - 2000}"]
    assert len(compiled) == 1


@ensureDeferred
async def test_files_are_shown_with_their_addresses_and_thumbnails(client: Client) -> None:
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    made = (await client.post("~/files", {"filename_disk": "dot.png", "filename_download": "dot.png", "data": picture})).data
    await client.patch("~/users/1", {"avatar": made["id"]})
    shown = "id title type width tags data{full_url url asset_url thumbnails{key width url} embed{html}}"
    found = await data(client, f"{{directus_files{{data{{{shown}}}}} directus_users(id: 1){{data{{avatar{{{shown}}}}}}}}}")
    (file,) = found["directus_files"]["data"]
    assert found["directus_users"]["data"] == [{"avatar": file}]
    assert (file["id"], file["type"], file["width"], file["tags"]) == (str(made["id"]), "image/png", 1, [])
    assert file["data"]["full_url"] == made["data"]["full_url"]
    assert [each["url"] for each in file["data"]["thumbnails"]] == [each["url"] for each in made["data"]["thumbnails"]]
    assert file["data"]["embed"] is None


# --- permissions


@ensureDeferred
async def test_the_schema_of_a_role_has_what_it_may_see(client: Client) -> None:
    await library(client)
    reader = await role(client, {"collection": "books", "read": "full", "read_field_blacklist": ["secret"]})
    found = await data(client, '{__type(name: "BooksItem"){fields{name}} __schema{types{name}}}', token=reader)
    assert [each["name"] for each in found["__type"]["fields"]] == [
        "id",
        "status",
        "title",
        "year",
        "price",
        "author",
        "owner",
    ]
    assert not {"AuthorsItem", "PagesItem", "Authors"} & {each["name"] for each in found["__schema"]["types"]}
    assert (await data(client, "{books(limit: 1){data{title author}}}", token=reader)) == {
        "books": {"data": [{"title": "T1", "author": "2"}]}
    }
    for document in (
        "{authors{data{id}}}",
        "{books{data{secret}}}",
        "{books{data{pages{id}}}}",
        '{books(filter: {secret_eq: "s1"}){data{id}}}',
        "{books(sort: [secret_asc]){data{id}}}",
        "{books_aggregate{min{secret}}}",
        'mutation{create_books_item(data: {title: "x"}){id}}',
    ):
        await refusal(client, document, token=reader)


@ensureDeferred
async def test_rows_and_values_that_are_hidden_stay_hidden(client: Client) -> None:
    await library(client)
    reader = await role(
        client,
        {"collection": "books", "read": "full", "status": "live", "read_field_blacklist": []},
        {"collection": "authors", "read": "full"},
    )
    await client.patch("~/items/books/1", {"status": "gone"})
    everything = '{authors{data{name books{title}}} books(status: ["*"], limit: -1){data{title} meta{total_count}}}'
    found = await data(client, everything, token=reader)
    assert "T1" not in json.dumps(found)
    assert (await ask(client, "{books(id: 1){data{title}}}", token=reader))["data"] == {"books": None}


@ensureDeferred
async def test_the_schema_of_a_limited_token_has_what_it_is_limited_to(client: Client) -> None:
    await library(client)
    answer = await client.post("~/users/me/tokens", {"name": "books", "read_only": True, "collections": ["books"]})
    token = answer.data["token"]
    found = await data(client, "{books(limit: 1){data{title author}} __schema{mutationType{name}}}", token=token)
    assert found == {"books": {"data": [{"title": "T1", "author": "2"}]}, "__schema": {"mutationType": None}}
    await refusal(client, "{authors{data{name}}}", token=token)
    await refusal(client, "mutation{delete_books_item(id: 1)}", token=token)


@ensureDeferred
async def test_callers_without_collections_are_refused_and_the_public_may_have_some(client: Client) -> None:
    await library(client)
    refused = await client.post("~/gql", {"query": "{books{data{id}}}"}, token=None)
    assert (refused.status, refused.code) == (401, 3)
    assert (await client.get("~/specs/graphql", token=None)).status == 401
    assert (await client.post("~/permissions", {"role": 2, "collection": "books", "read": "full"})).status == 200
    assert len((await data(client, "{books{data{title}}}", token=None))["books"]["data"]) == 9
    text = (await client.get("~/specs/graphql", token=None)).body.decode()
    assert "type BooksItem implements Node {" in text
    assert "Authors" not in text


@ensureDeferred
async def test_a_new_field_is_known_at_once(client: Client) -> None:
    await library(client)
    assert "Cannot query field" in await refusal(client, "{authors{data{born}}}")
    await client.post("~/fields/authors", field("born", "integer", "INT", 11))
    assert (await data(client, "{authors(limit: 1){data{born}}}")) == {"authors": {"data": [{"born": None}]}}


# --- mutations


@ensureDeferred
async def test_mutations_write_nested_items_in_one_transaction(client: Client) -> None:
    await library(client)
    found = await data(
        client,
        """mutation M($book: BooksInput!) {
          made: create_books_item(data: $book) { id title author { id name } pages { number } }
          changed: update_books_items(ids: [1, 2], data: {year: 1900}) { id year }
          each: update_each_books_item(data: [{id: 3, year: 1901}, {id: 4, title: "New"}]) { year title }
          gone: delete_books_items(ids: [5, 6])
        }""",
        book={"title": "T10", "author": {"name": "Dee"}, "pages": [{"number": 1}, {"number": 2}]},
    )
    assert found == {
        "made": {"id": "10", "title": "T10", "author": {"id": "4", "name": "Dee"}, "pages": [{"number": 1}, {"number": 2}]},
        "changed": [{"id": "1", "year": 1900}, {"id": "2", "year": 1900}],
        "each": [{"year": 1901, "title": "T3"}, {"year": 2004, "title": "New"}],
        "gone": ["5", "6"],
    }
    activity = (await client.get("~/activity?limit=4&sort=-id&fields=action,collection")).data
    assert {(each["action"], each["collection"]) for each in activity} <= {("update", "books"), ("delete", "books")}


@ensureDeferred
async def test_a_mutation_that_fails_undoes_all_of_them(client: Client) -> None:
    await library(client)
    answer = await ask(
        client,
        'mutation{a: create_authors_item(data: {name: "Eve"}){id} b: delete_books_item(id: 99) c: delete_books_item(id: 1)}',
    )
    assert answer["data"] is None
    assert (answer["errors"][0]["path"], answer["errors"][0]["extensions"]) == (["b"], {"code": 203})
    assert (await client.get("~/items/authors?meta=total_count&limit=0")).json["meta"] == {"total_count": 3}
    assert (await client.get("~/items/books/1")).status == 200


@ensureDeferred
async def test_a_mutation_that_deactivates_a_user_ends_the_tokens_of_the_user_for_good(client: Client) -> None:
    ada = {"email": "ada@example.com", "password": "ada-secret"}
    await client.post("~/users", ada | {"status": "active", "role": 1})
    token = (await client.post("~/auth/authenticate", ada, token=None)).data["token"]
    states = []
    for status in ("draft", "active"):
        change = f'mutation{{update_directus_users_item(id: 2, data: {{status: "{status}"}}){{id status}}}}'
        assert await data(client, change) == {"update_directus_users_item": {"id": "2", "status": status}}
        states.append((await client.get("~/users/me", token=token)).status)
    assert states == [401, 401]


@ensureDeferred
async def test_mutations_obey_the_permissions(client: Client) -> None:
    await library(client)
    writer = await role(
        client,
        {"collection": "books", "read": "full", "update": "full", "create": "full", "write_field_blacklist": ["secret"]},
        {"collection": "authors", "read": "full"},
    )
    fields = (await data(client, '{__type(name: "BooksInput"){inputFields{name}}}', token=writer))["__type"]["inputFields"]
    assert "secret" not in {each["name"] for each in fields}
    roots = (await data(client, "{__schema{mutationType{fields{name}}}}", token=writer))["__schema"]["mutationType"]["fields"]
    assert {each["name"] for each in roots if "directus" not in each["name"]} == {
        "create_books_item",
        "create_books_items",
        "update_books_item",
        "update_books_items",
        "update_each_books_item",
    }
    answer = await ask(client, 'mutation{create_books_item(data: {author: {name: "Mallory"}}){id}}', token=writer)
    assert answer["errors"][0]["extensions"]["code"] == 301
    assert (await client.get("~/items/authors?filter[name]=Mallory")).data == []


@ensureDeferred
async def test_items_of_system_collections_are_written_by_the_rules_of_their_routes(client: Client) -> None:
    await library(client)
    made = await data(
        client,
        """mutation M($secret: String!) {
          role: create_directus_roles_item(data: {name: "Editors"}) { id name }
          folder: create_directus_folders_items(data: [{name: "A"}, {name: "B"}]) { name }
          preset: create_directus_collection_presets_item(data: {collection: "books", title: "Mine"}) { title }
          user: create_directus_users_item(data: {email: "eve@example.com", password: $secret, status: "active", role: "1"}) {
            email role { name }
          }
        }""",
        secret="correct-horse-8",
    )
    assert (made["role"]["name"], made["folder"]) == ("Editors", [{"name": "A"}, {"name": "B"}])
    assert (made["preset"], made["user"]["email"]) == ({"title": "Mine"}, "eve@example.com")
    signed_in = await client.post("~/auth/authenticate", {"email": "eve@example.com", "password": "correct-horse-8"}, token=None)
    assert signed_in.status == 200
    activity = (await client.get("~/activity?filter[action]=create&sort=-id&limit=4&fields=collection")).data
    # Presets are not logged.
    expected = ["directus_users", "directus_folders", "directus_folders", "directus_roles"]
    assert [each["collection"] for each in activity] == expected

    # The permissions count at once, and a permission that is refused by REST is refused here.
    role = made["role"]["id"]
    granted = 'mutation{create_directus_permissions_item(data: {role: %s, collection: "books", read: "full"}){collection read}}'
    found = await data(client, granted % role)
    assert found == {"create_directus_permissions_item": {"collection": "books", "read": "full"}}
    nonsense = {"role": int(role), "collection": "books", "read": "everything"}
    by_rest = (await client.post("~/permissions", nonsense)).json["error"]
    answer = await ask(client, (granted % role).replace("full", "everything"))
    assert (answer["errors"][0]["message"], answer["errors"][0]["extensions"]["code"]) == (by_rest["message"], by_rest["code"])
    assert len((await client.get("~/permissions?filter[collection]=books")).data) == 1


@ensureDeferred
async def test_the_last_administrator_stays_whoever_deletes_it(client: Client) -> None:
    await library(client)
    for document, method, body in (
        ("mutation{delete_directus_users_item(id: 1)}", client.delete, ()),
        ('mutation{update_directus_users_item(id: 1, data: {role: "2"}){id}}', client.patch, ({"role": 2},)),
        (
            'mutation{update_directus_users_item(id: 1, data: {status: "suspended"}){id}}',
            client.patch,
            ({"status": "suspended"},),
        ),
    ):
        refused = await method("~/users/1", *body)
        answer = await ask(client, document)
        assert answer["data"] is None
        assert answer["errors"][0]["extensions"]["code"] == refused.json["error"]["code"]
    assert (await client.get("~/users/1")).data["status"] == "active"


@ensureDeferred
async def test_a_role_writes_of_the_system_collections_what_rest_lets_it_write(client: Client) -> None:
    await library(client)
    writer = await role(
        client,
        {"collection": "books", "read": "full"},
        {"collection": "directus_folders", "read": "full", "create": "full"},
        {"collection": "directus_users", "read": "mine", "update": "mine"},
    )
    roots = (await data(client, "{__schema{mutationType{fields{name}}}}", token=writer))["__schema"]["mutationType"]["fields"]
    names = {each["name"] for each in roots}
    assert {each for each in names if "_users_" in each} == {"update_directus_users_item", "update_directus_users_items"}
    assert "create_directus_folders_item" in names
    assert not [
        each for each in names for part in ("roles", "permissions", "settings", "relations") if f"directus_{part}_" in each
    ]
    me = (await client.get("~/users/me?fields=id", token=writer)).data["id"]
    changed = f'mutation{{update_directus_users_item(id: {me}, data: {{first_name: "F"}}){{first_name}}}}'
    assert (await data(client, changed, token=writer)) == {"update_directus_users_item": {"first_name": "F"}}
    raised = f'mutation{{update_directus_users_item(id: {me}, data: {{role: "1"}}){{first_name}}}}'
    other = 'mutation{update_directus_users_item(id: 1, data: {first_name: "F"}){first_name}}'
    for document, path, body in ((raised, f"~/users/{me}", {"role": 1}), (other, "~/users/1", {"first_name": "F"})):
        refused, answer = await client.patch(path, body, token=writer), await ask(client, document, token=writer)
        assert (answer["data"], answer["errors"][0]["extensions"]["code"]) == (None, refused.code)
    assert (await client.get(f"~/users/{me}")).data["role"] != 1


def test_mutations_of_system_collections_are_those_of_the_routes() -> None:
    letters = {"create": "c", "update": "u", "update each": "b", "delete": "d"}
    by_route = {
        each.collection: {does for does, letter in letters.items() if letter in each.methods}
        for each in ADDRESSES
        if each.collection not in WITHOUT_ROOT
    }
    assert {name: does for name, does in by_route.items() if does} == dict(WRITTEN)


@ensureDeferred
async def test_lists_in_the_answer_of_a_mutation_take_arguments(client: Client) -> None:
    await library(client)
    document = """mutation M($most: Int) {
      one: update_authors_item(id: 1, data: {name: "A"}) {
        name books(sort: [year_desc], limit: $most) { title pages(limit: 1) { number } }
      }
      all: update_authors_items(ids: [2, 3], data: {name: "B"}) { books(filter: {year_gt: 2006}) { title } }
      new: create_authors_item(data: {name: "C", books: [{title: "x"}, {title: "y"}]}) { books(search: "Y") { title } }
    }"""
    found = await data(client, document, most=1)
    assert found == {
        "one": {"name": "A", "books": [{"title": "T9", "pages": [{"number": 9}]}]},
        "all": [{"books": [{"title": "T7"}]}, {"books": [{"title": "T8"}]}],
        "new": {"books": [{"title": "y"}]},
    }
    twice = 'mutation{update_authors_item(id: 1, data: {name: "Z"}){a: books(limit: 1){title} b: books{title}}}'
    assert "different arguments" in await refusal(client, twice)
    many = 'mutation{update_authors_items(ids: [1, 2], data: {name: "Z"}){books(limit: 60000){id}}}'
    assert "graphql.max_items" in await refusal(client, many)
    assert (await client.get("~/items/authors/1")).data["name"] == "A"


# --- limits, errors, persisted queries


@ensureDeferred
async def test_documents_that_are_too_large_are_refused_by_name(client: Client) -> None:
    await library(client)
    deep = "{authors{data{" + "books{author{" * 12 + "id" + "}}" * 12 + "}}}"
    wide = "{" + " ".join([f"a{n}: books{{data{{id}}}}" for n in range(70)]) + "}"
    many = "{books{data{" + "title " * 1500 + "}}}"
    bomb = "{authors{data{...f0}}}" + "".join(
        f"fragment f{n} on AuthorsItem{{books{{author{{...f{n + 1}}}}} more: books{{author{{...f{n + 1}}}}}}}" for n in range(9)
    )
    bomb += "fragment f9 on AuthorsItem{id}"
    chain = "{authors{data{...f0}}}" + "".join(f"fragment f{n} on AuthorsItem{{...f{n + 1}}}" for n in range(600))
    chain += "fragment f600 on AuthorsItem{id}"
    rows = "{authors(limit: 1000){data{books(limit: 1000){pages{id}}}}}"
    for document, setting in (
        (deep, "graphql.max_depth"),
        (wide, "graphql.max_aliases"),
        (many, "graphql.max_fields"),
        (bomb, "graphql.max_"),
        (chain, "graphql.max_depth"),
        (rows, "graphql.max_items"),
        ("{books{data{id}}}" + "#" + "x" * 100_000, ""),
        ("{" * 20_000, ""),
        ("{a" * 3000, ""),
        (
            "{" + "".join([f"a{n}: authors{{data{{books{{pages{{id}} author{{books{{id}}}}}}}}}}" for n in range(59)]) + "}",
            "max_lists",
        ),
    ):
        assert setting in await refusal(client, document)
    for cycle in (
        "{books{data{...a}}} fragment a on BooksItem{...b} fragment b on BooksItem{...a}",
        "{books{data{...a}}} fragment a on BooksItem{author{books{...a}}}",
    ):
        assert "contains itself" in await refusal(client, cycle)


@ensureDeferred
async def test_errors_have_codes_and_paths_and_one_root_does_not_fail_another(client: Client) -> None:
    await library(client)
    answer = await ask(
        client, '{a: books(id: 99){data{id}} b: books(id: 1){data{id}} c: books(filter: {title_rlike: "("}){data{id}}}'
    )
    assert answer["data"]["a"] is None
    assert answer["data"]["b"] == {"data": [{"id": "1"}]}
    assert {(each["path"][0], each["extensions"]["code"]) for each in answer["errors"]} <= {("a", 203), ("c", 12)}
    bad: list[Any] = [[], [{"query": "{__typename}"}], "x", {"query": 1}, {"query": "{__typename}", "variables": 3}]
    for body in bad:
        reply = await client.post("~/gql", body)
        assert reply.status == 200
        assert reply.json["errors"][0]["extensions"]["code"] in (4, 13)


@ensureDeferred
async def test_persisted_queries_are_found_by_their_hash(client: Client) -> None:
    await library(client)
    text = "{books(limit: 1){data{title}}}"
    digest = hashlib.sha256(text.encode()).hexdigest()

    async def send(**body: Any) -> Reply:
        return await client.post("~/gql", {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}, **body})

    missing = (await send()).json["errors"][0]
    assert missing == {"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}
    assert "errors" in (await send(query="{__typename}")).json
    expected = {"data": {"books": {"data": [{"title": "T1"}]}}}
    assert (await send(query=text)).json == expected
    assert (await send()).json == expected


@ensureDeferred
async def test_names_that_graphql_does_not_allow_are_replaced_and_clashes_are_left_out(client: Client) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    await session.query('CREATE TABLE "my-things" (id serial PRIMARY KEY, "größe" text, "2nd" text, "a-b" text, "a_b" text)')
    await session.query('CREATE TABLE "my_things" (id serial PRIMARY KEY)')
    for name in ("query", "node", "date", "metadata"):
        await session.query(f"CREATE TABLE {name} (id serial PRIMARY KEY)")
    await session.query("""INSERT INTO "my-things" ("größe", "2nd", "a-b", "a_b") VALUES ('g', '2', 'first', 'second')""")
    await client.get("~/collections")
    await session.query("SELECT directus_touch('schema')")
    found = await data(client, '{my_things(filter: {_2nd_eq: "2"}){data{gr_u00f6_u00dfe _2nd a_b}}}')
    assert found["my_things"]["data"] == [{"gr_u00f6_u00dfe": "g", "_2nd": "2", "a_b": "first"}]
    text = (await client.get("~/specs/graphql")).body.decode()
    assert 'The collection "my_things" is left out: another has the GraphQL name my_things or MyThings.' in text
    for name, type in (("query", "Query"), ("node", "Node"), ("date", "Date"), ("metadata", "Metadata")):
        assert f'The collection "{name}" is left out: the schema has a type {type} of its own.' in text
    assert 'The field "a_b" of "my-things" is left out' in text


@ensureDeferred
async def test_browsers_get_a_console_and_other_clients_none(client: Client) -> None:
    page = await client.get("~/gql", headers={"Accept": "text/html,*/*"}, token=None)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    refused = await client.get("~/gql?query={__typename}")
    assert (refused.status, refused.code, refused.headers["allow"]) == (405, 6, "POST")


class TestSettings:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, graphql=evolve(settings.graphql, mutations="off", console="off", introspection="administrators"))

    @ensureDeferred
    async def test_settings_turn_off_mutations_the_console_and_introspection(self, client: Client) -> None:
        await library(client)
        reader = await role(client, {"collection": "books", "read": "full"})
        found = await data(client, "{__schema{mutationType{name}}}")
        assert found == {"__schema": {"mutationType": None}}
        assert "graphql.mutations" in await refusal(client, "mutation{delete_books_item(id: 1)}")
        assert (await client.get("~/gql", headers={"Accept": "text/html"})).status == 405
        for document in ("{__schema{types{name}}}", '{books{data{id}} __type(name: "BooksItem"){name}}'):
            assert "graphql.introspection" in await refusal(client, document, token=reader)
        assert (await client.get("~/specs/graphql", token=reader)).status == 422
        assert await data(client, "{books(limit: 1){__typename data{__typename id}}}", token=reader) == {
            "books": {"__typename": "Books", "data": [{"__typename": "BooksItem", "id": "1"}]}
        }


MISTAKES = (
    ("{book{data{id}}}", {}),
    ("{books{data{titel}}}", {}),
    ("{books(limits: 1){data{id}}}", {}),
    ("{books{data{... on BookItem{id}}}}", {}),
    ("query($a: BooksFilters){books{data{id}}}", {}),
    ("{books(filter: {titel_eq: 5}){data{id}}}", {}),
    ("{books @skipp(if: true){data{id}}}", {}),
    ("query($filter: BooksFilter){books(filter: $filter){data{id}}}", {"filter": {"titel_eq": "a"}}),
)
"""Documents with names that are not quite right, and variables."""


async def messages(client: Client, document: str, variables: Any, token: str | None) -> list[str]:
    answer = await client.post("~/gql", {"query": document, "variables": variables}, token=token)
    return [each["message"] for each in answer.json["errors"]]


@ensureDeferred
async def test_errors_suggest_names_to_whoever_may_ask_for_the_schema(client: Client) -> None:
    await library(client)
    reader = await role(client, {"collection": "books", "read": "full"})
    for token in (TOKEN, reader):
        found = [message for each in MISTAKES for message in await messages(client, *each, token)]
        assert sum("Did you mean" in message for message in found) >= 5


class TestSuggestions:
    @pytest.fixture(params=["none", "administrators", "users"])
    def settings(self, settings: Settings, request: pytest.FixtureRequest) -> Settings:
        return evolve(settings, graphql=evolve(settings.graphql, introspection=request.param))

    @ensureDeferred
    async def test_errors_suggest_no_names_to_others(self, client: Client) -> None:
        await library(client)
        reader = await role(client, {"collection": "books", "read": "full"})
        await client.post("~/permissions", {"collection": "books", "role": 2, "read": "full"})
        allowed = client.app.services.settings.graphql.introspection
        for token, may in ((TOKEN, allowed != "none"), (reader, allowed == "users"), (None, False)):
            # Twice, because what is valid is kept.
            for _ in range(2):
                found = [await messages(client, *each, token) for each in MISTAKES]
                assert all(found), found
                suggested = [message for each in found for message in each if "Did you mean" in message]
                assert bool(suggested) == may, suggested


class TestLargeSchemas:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, graphql=evolve(settings.graphql, max_described=3000))

    @ensureDeferred
    async def test_answers_about_the_schema_are_bounded(self, client: Client) -> None:
        await library(client)
        full = get_introspection_query()
        nested = "{__schema{types{fields{type{name fields{name}}} inputFields{name}}}}"
        aliased = f"{{__schema{{{' '.join(f'a{n}: types{{fields{{name}}}}' for n in range(10))}}}}}"
        for document in (full, nested, aliased, "{books{data{id}} __schema{types{name fields{name type{name kind}}}}}"):
            for _ in range(2):
                assert "graphql.max_described" in await refusal(client, document)
        found = await data(client, '{__type(name: "BooksItem"){fields{name}} __schema{queryType{name}}}')
        assert "title" in {each["name"] for each in found["__type"]["fields"]}
        assert (await client.get("~/specs/graphql")).status == 200
        # A caller who sees less can ask for all of it.
        reader = await role(client, {"collection": "books", "read": "full"})
        names = await data(client, "{__schema{types{name}}}", token=reader)
        assert "BooksItem" in {each["name"] for each in names["__schema"]["types"]}


class TestLongLists:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, graphql=evolve(settings.graphql, max_answer_size=10_000))

    @ensureDeferred
    async def test_a_long_list_is_refused_if_it_is_too_large_or_needed_several_times(self, client: Client) -> None:
        await client.collection("rows", field("text"), field("below", "o2m", None, None), field("above", "m2o", "INT", 11))
        relation = {"collection_many": "rows", "field_many": "above", "collection_one": "rows", "field_one": "below"}
        await client.post("~/relations", relation)
        for _ in range(3):
            assert (await client.post("~/items/rows", [{"text": "x" * 100}] * 500)).status == 200
        for document, message in (
            ("{rows(limit: -1){data{text}}}", "graphql.max_answer_size"),
            ("{rows(limit: -1){data{a: below(limit: 1){id} b: below{id}}}}", "different arguments"),
        ):
            answer = await ask(client, document)
            assert answer["data"] == {"rows": None}
            assert message in answer["errors"][0]["message"]
            assert answer["errors"][0]["path"] == ["rows"]


@ensureDeferred
async def test_collections_and_fields_that_show_each_other_are_bounded(client: Client) -> None:
    """The answer grows exponentially with the depth of a document."""
    await library(client)

    def inner(times: int) -> str:
        below = f" collection {{{inner(times - 1)}}}" if times else ""
        return f"collection fields {{field{below}}}"

    def document(times: int) -> str:
        return f"directus_collections {{data {{{inner(times)}}}}}"

    every = (await data(client, f"{{{document(1)}}}"))["directus_collections"]["data"]
    (books,) = [each for each in every if each["collection"] == "books"]
    names = [each["field"] for each in books["fields"]]
    assert "title" in names
    assert all([below["field"] for below in each["collection"]["fields"]] == names for each in books["fields"])
    text = "An answer may have up to 50000 collections and fields"
    for times in (5, 7):
        answer = await ask(client, f"{{{document(times)} authors {{data {{name}}}}}}")
        assert text in answer["errors"][0]["message"]
        assert (answer["data"]["directus_collections"], "data" in answer["data"]["authors"]) == (None, True)
        fields = f"directus_fields {{data {{collection {{{inner(times)}}}}}}}"
        assert text in (await ask(client, f"{{{fields}}}"))["errors"][0]["message"]
    # All root fields count together.
    assert "errors" not in await ask(client, f"{{{document(2)}}}")
    many = " ".join([f"a{number}: {document(2)}" for number in range(50)])
    assert text in (await ask(client, f"{{{many}}}"))["errors"][0]["message"]
