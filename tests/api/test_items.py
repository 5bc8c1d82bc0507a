"""Items over HTTP: what the contract does not say already."""

from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.db.session import Session
from tests.conftest import Client, field


async def blog(client: Client) -> None:
    await client.collection("authors", field("name", required=True), {"field": "articles", "type": "o2m"})
    await client.collection("articles", field("title"), field("author", "m2o", "INT", 11))
    relation = {"collection_many": "articles", "field_many": "author", "collection_one": "authors", "field_one": "articles"}
    assert (await client.post("~/relations", relation)).status == 200


@ensureDeferred
async def test_a_nested_write_that_fails_leaves_nothing(client: Client) -> None:
    await blog(client)
    payload = {"name": "Ada", "articles": [{"title": "One"}, {"title": "x" * 300}]}
    answer = await client.post("~/items/authors", payload)
    assert (answer.status, answer.code) == (422, 12)
    assert (await client.get("~/items/authors")).data == []
    assert (await client.get("~/items/articles")).data == []
    assert (await client.get("~/activity?filter[collection]=authors")).data == []


@ensureDeferred
async def test_names_that_are_sql_are_just_names(client: Client) -> None:
    name, column = 'we"ird%s; DROP', 'a%b"c'
    await client.collection(name, field(column), field("b%(x)s"))
    path = "~/items/we%22ird%25s;%20DROP"
    assert (await client.post(path, {column: "100%", "b%(x)s": "y"})).data[column] == "100%"
    assert (await client.get(path + "?fields=a%25b%22c&filter[a%25b%22c]=100%25&sort=-b%25(x)s&q=100&meta=*")).data == [
        {column: "100%"}
    ]
    assert (await client.patch(path + "/1", {column: "%s"})).data[column] == "%s"


@ensureDeferred
async def test_nul_characters_are_refused(client: Client) -> None:
    await client.collection("things", field("name"), field("status", "status", length=20, default_value="open"))
    assert (await client.post("~/items/things", {"name": "a\x00b"})).code == 4
    await client.post("~/items/things", {"name": "other"})
    for query in (
        "filter[name]=%00",
        "filter[%00]=1",
        "filter[name][in]=%00,a",
        "q=%00",
        "status=%00",
        "fields=%00",
        "comment=%00",
    ):
        answer = await client.get("~/items/things?" + query)
        assert (answer.status, answer.code) == (422, 4), query
    assert (await client.get("~/items/things/%00")).status == 404
    assert (await client.get("~/items/things", token="\x01")).status == 401


@ensureDeferred
async def test_concurrent_updates_of_one_item_all_leave_a_revision(client: Client) -> None:
    await client.collection("counters", field("n", "integer", "INT", 11))
    await client.post("~/items/counters", {"n": 0})
    answers = await defer.gatherResults([defer.ensureDeferred(client.patch("~/items/counters/1", {"n": n})) for n in range(40)])
    assert {answer.status for answer in answers} == {200}
    revisions = (await client.get("~/items/counters/1/revisions?limit=-1")).data
    assert len(revisions) == 41
    assert revisions[-1]["data"]["n"] == str((await client.get("~/items/counters/1")).data["n"])


@ensureDeferred
async def test_updates_of_the_same_items_in_opposite_order_do_not_fail(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": "a"}, {"name": "b"}])
    forth = [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]
    answers = await defer.gatherResults(
        [defer.ensureDeferred(client.patch("~/items/things", forth[:: -1 if n % 2 else 1])) for n in range(20)]
    )
    assert {answer.status for answer in answers} == {200}


@ensureDeferred
async def test_ten_thousand_items_in_one_post_take_few_statements(client: Client) -> None:
    await client.collection("things", field("name"))
    session = Session(client.backend.projects.get(client.project).database)
    before = await session.query("SELECT count(*) FROM directus_activity")
    answer = await client.post("~/items/things?fields=id", [{"name": f"n{n}"} for n in range(10_000)])
    assert [item["id"] for item in answer.data] == list(range(1, 10_001))
    after = await session.query("SELECT count(*) FROM directus_activity")
    assert after[0][0] - before[0][0] == 10_000


@ensureDeferred
async def test_secrets_are_in_no_answer_and_no_revision(client: Client) -> None:
    user = {"email": "u@example.com", "password": "hunter2-hunter2", "token": "very-secret-token", "role": 1}
    made = await client.post("~/users", user)
    assert "password" not in made.data
    everything = b"".join(
        [(await client.get(path)).body for path in ("~/revisions?limit=-1", "~/activity?limit=-1", "~/users?fields=*.*")]
    )
    assert b"hunter2" not in everything
    assert b"$argon2" not in everything
    revisions = (await client.get("~/revisions?limit=-1")).body
    assert b"very-secret-token" not in revisions


@ensureDeferred
async def test_an_existing_table_appears_and_can_be_managed(client: Client) -> None:
    session = Session(client.backend.projects.get(client.project).database)

    async def make(session):
        await session.query(
            "CREATE TABLE legacy (code uuid PRIMARY KEY, name text NOT NULL, price numeric(8,2) DEFAULT 1.50, made timestamptz,"
            " extra jsonb, flag boolean DEFAULT true)"
        )
        await session.query("SELECT directus_touch('schema')")

    await session.transaction(make)
    found = (await client.get("~/collections/legacy")).data
    assert (found["managed"], found["fields"]["price"]["datatype"], found["fields"]["price"]["length"]) == (
        False,
        "DECIMAL",
        "8,2",
    )
    assert found["fields"]["price"]["default_value"] == "1.50"
    key = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    made = await client.post("~/items/legacy", {"code": key, "name": "x", "made": "2024-01-01 10:00:00", "extra": {"a": [1]}})
    assert made.data == {
        "code": key,
        "name": "x",
        "price": 1.5,
        "made": "2024-01-01 10:00:00",
        "extra": {"a": [1]},
        "flag": True,
    }
    assert (await client.get(f"~/items/legacy?filter[code]={key}&filter[extra][contains]=a")).data[0]["name"] == "x"
    managed = await client.post("~/collections", {"collection": "legacy", "fields": []})
    assert managed.data["managed"] is True
    assert (await client.patch("~/fields/legacy/name", {"note": "Noted"})).data["note"] == "Noted"
    assert (await client.get(f"~/items/legacy/{key}")).data["name"] == "x"
