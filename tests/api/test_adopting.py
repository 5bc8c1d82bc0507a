"""Foreign keys of tables that the server has not made are relations; adopting describes such tables and leaves them as they are."""

from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from directus_tx.db.session import Session
from tests.conftest import Client
from tests.live.test_existing_schemas import dumped, make

SHOP = """
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, code varchar(10) UNIQUE, note text);
CREATE TABLE orders (
    id serial PRIMARY KEY,
    customer integer REFERENCES customers,
    payer integer REFERENCES customers (id) ON DELETE SET NULL,
    customer_code varchar(10) REFERENCES customers (code),
    previous integer REFERENCES orders,
    state state NOT NULL DEFAULT 'new',
    total numeric(10,2),
    doubled numeric GENERATED ALWAYS AS (total * 2) STORED
);
CREATE TABLE products (sku uuid PRIMARY KEY DEFAULT gen_random_uuid(), "orders" text, label text);
CREATE TABLE order_products (id serial PRIMARY KEY, "order" integer NOT NULL REFERENCES orders, product uuid NOT NULL REFERENCES products);
CREATE TABLE tags (tag text PRIMARY KEY);
CREATE TABLE products_tags (
    product uuid REFERENCES products, tag text REFERENCES tags, added timestamptz DEFAULT now(), PRIMARY KEY (product, tag)
);
CREATE TABLE stock (place integer, product uuid REFERENCES products, PRIMARY KEY (place, product));
CREATE TABLE moves (
    id serial PRIMARY KEY, place integer, product uuid, author bigint REFERENCES directus_users,
    FOREIGN KEY (place, product) REFERENCES stock
);
INSERT INTO customers (name, code) VALUES ('Ada', 'a'), ('Bob', 'b');
INSERT INTO orders (customer, payer, customer_code, total) VALUES (1, 2, 'a', 1.5), (1, 1, 'b', 2);
UPDATE orders SET previous = 1 WHERE id = 2;
INSERT INTO products (sku, label) SELECT md5(n::text)::uuid, 'product ' || n FROM generate_series(1, 3) AS n;
INSERT INTO order_products ("order", product) SELECT 1 + n % 2, md5(n::text)::uuid FROM generate_series(1, 3) AS n;
INSERT INTO tags VALUES ('x'), ('y');
INSERT INTO products_tags (product, tag) SELECT sku, tag FROM products, tags;
INSERT INTO stock SELECT 1, sku FROM products;
INSERT INTO moves (place, product) SELECT 1, sku FROM products;
"""


async def shop(client: Client) -> None:
    await make(client, SHOP)


async def adopt(client: Client, **payload: Any) -> Any:
    answer = await client.post("~/schema/adopt", payload)
    assert answer.status == 200, answer.body
    return answer.data


async def relations(client: Client) -> list[dict[str, Any]]:
    """The relations of the tables."""
    rows = (await client.get("~/relations?limit=-1")).data
    return [row for row in rows if not row["collection_many"].startswith("directus_")]


@ensureDeferred
async def test_foreign_keys_are_relations_at_once(client: Client) -> None:
    await shop(client)
    found = await client.get("~/items/orders/2?fields=id,customer.name,payer.*,previous.customer.name")
    assert found.data == {
        "id": 2,
        "customer": {"name": "Ada"},
        "payer": {"id": 1, "name": "Ada", "code": "a", "note": None},
        "previous": {"customer": {"name": "Ada"}},
    }
    fields = {field["field"]: field for field in (await client.get("~/fields/orders")).data}
    assert {name for name, field in fields.items() if field["type"] == "m2o"} == {"customer", "payer", "previous"}
    assert fields["customer"]["interface"] == "many-to-one"
    # A key that refers to something else than the key of a collection is a plain column.
    assert fields["customer_code"]["type"] == "string"
    assert (await client.get("~/items/orders?filter[payer.name]=bob&fields=id")).data == [{"id": 1}]
    assert (await client.get("~/items/moves?fields=*.*&limit=1")).data[0]["product"].startswith("c4ca")


@ensureDeferred
async def test_items_behind_a_foreign_key_are_written_with_the_item(client: Client) -> None:
    await shop(client)
    answer = await client.post("~/items/orders?fields=customer.*", {"customer": {"name": "Cleo"}, "total": 3})
    assert answer.data == {"customer": {"id": 3, "name": "Cleo", "code": None, "note": None}}
    assert (await client.patch("~/items/orders/1", {"customer": {"id": 1, "name": "Ada L."}})).status == 200
    assert (await client.get("~/items/customers/1?fields=name")).data == {"name": "Ada L."}
    missing = await client.post("~/items/orders", {"customer": 99})
    assert missing.status == 422 or missing.status == 400


@ensureDeferred
async def test_a_role_sees_the_key_of_an_item_that_it_may_not_read(client: Client) -> None:
    await shop(client)
    role = (await client.post("~/roles", {"name": "Reader"})).data["id"]
    user = {"email": "reader@example.com", "role": role, "status": "active", "token": "reader", "password": "password"}
    assert (await client.post("~/users", user)).status == 200
    assert (await client.post("~/permissions", {"collection": "orders", "role": role, "read": "full"})).status == 200
    found = await client.get("~/items/orders/1?fields=id,customer.*", token="reader")
    assert found.data == {"id": 1, "customer": {"id": 1}}
    assert (await client.get("~/items/orders?filter[customer.name]=ada", token="reader")).status == 403


@ensureDeferred
async def test_a_declared_relation_comes_before_the_foreign_key(client: Client) -> None:
    await shop(client)
    relation = {"collection_many": "orders", "field_many": "customer", "collection_one": "directus_users"}
    assert (await client.post("~/relations", relation)).status == 200
    assert (await client.get("~/items/orders/1?fields=customer.email")).data == {"customer": {"email": "admin@example.com"}}


@ensureDeferred
async def test_adopting_describes_tables_and_their_relations(client: Client) -> None:
    await shop(client)
    before = await dumped(client)
    planned = await adopt(client, dry_run=True)
    assert await relations(client) == []
    assert not any(
        each["managed"] for each in (await client.get("~/collections")).data if not each["collection"].startswith("directus_")
    )
    done = await adopt(client)
    assert done == planned
    assert await dumped(client) == before
    aliases = {(each["collection_one"], each["field_one"], each["junction_field"]) for each in done["relations"]}
    assert aliases == {
        ("customers", "orders_customer", None),
        ("customers", "orders_payer", None),
        ("orders", "orders_previous", None),
        ("orders", "products", "product"),
        # The column "orders" of products is there already.
        ("products", "order_products", "order"),
        ("products", "tags", "tag"),
        ("tags", "products", "product"),
        ("products", "stock", None),
        ("directus_users", None, None),
    }
    collections = {each["collection"]: each for each in (await client.get("~/collections")).data}
    assert collections["orders"]["managed"]
    assert {name for name, each in collections.items() if each["hidden"] and not name.startswith("directus_")} == {
        "order_products",
        "products_tags",
    }
    fields = {field["field"]: field for field in (await client.get("~/fields/orders")).data}
    assert fields["state"]["interface"] == "dropdown"
    assert fields["state"]["options"] == {"choices": {"new": "new", "paid": "paid"}}
    assert fields["doubled"]["readonly"] is True
    assert fields["id"]["interface"] == "primary-key"
    assert (fields["products"]["type"], fields["products"]["interface"]) == ("o2m", "many-to-many")
    reasons = {each["name"]: each["reason"] for each in done["left_out"]}
    assert "several columns" in reasons["moves.moves_place_product_fkey"]
    assert "key of the collection" in reasons["orders.orders_customer_code_fkey"]
    assert "only be read" in reasons["products.tags"]


@ensureDeferred
async def test_relations_are_read_and_written_from_both_sides(client: Client) -> None:
    await shop(client)
    await adopt(client)
    found = (await client.get("~/items/customers/1?fields=orders_customer.id,orders_payer.id")).data
    assert found == {"orders_customer": [{"id": 1}, {"id": 2}], "orders_payer": [{"id": 2}]}
    found = (await client.get("~/items/orders/2?fields=products.product.label")).data
    assert sorted(each["product"]["label"] for each in found["products"]) == ["product 1", "product 3"]
    found = (await client.get("~/items/products?fields=tags.tag.tag&limit=1")).data
    assert sorted(each["tag"]["tag"] for each in found[0]["tags"]) == ["x", "y"]
    added = {"products": [{"product": {"label": "new"}}]}
    answer = await client.post("~/items/orders?fields=products.product.label", added)
    assert answer.data == {"products": [{"product": {"label": "new"}}]}
    refused = await client.post("~/items/products", {"label": "z", "tags": [{"tag": "x"}]})
    assert 400 <= refused.status < 500
    assert (await client.get("~/items/products?filter[label]=z")).data == []
    for collection in ("customers", "orders", "products", "tags", "stock", "moves", "order_products", "products_tags"):
        assert (await client.get(f"~/items/{collection}?fields=*.*.*")).status == 200


@ensureDeferred
async def test_adopting_again_writes_nothing(client: Client) -> None:
    await shop(client)
    await adopt(client)
    rows = [(await client.get(f"~/{name}?limit=-1")).data for name in ("relations", "fields", "collections", "activity")]
    again = await adopt(client)
    assert (again["collections"], again["fields"], again["relations"]) == ([], [], [])
    assert [(await client.get(f"~/{name}?limit=-1")).data for name in ("relations", "fields", "collections", "activity")] == rows


@ensureDeferred
async def test_tables_adopted_one_by_one_are_related_as_if_adopted_together(client: Client) -> None:
    await shop(client)
    whole = await adopt(client, dry_run=True)
    names = ["orders", "order_products", "products", "customers", "stock", "products_tags", "tags", "moves"]
    for name in names:
        await adopt(client, tables=[name])
    rows = await relations(client)
    wanted = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
    assert sorted(str([row[n] for n in wanted]) for row in rows) == sorted(
        str([row[n] for n in wanted]) for row in whole["relations"]
    )
    again = await adopt(client)
    assert (again["collections"], again["fields"], again["relations"]) == ([], [], [])


@ensureDeferred
async def test_what_is_described_already_stays_as_it_is(client: Client) -> None:
    await shop(client)
    field = {"field": "customer", "type": "integer", "interface": "numeric", "note": "as a number"}
    assert (await client.post("~/collections", {"collection": "orders", "note": "mine", "fields": [field]})).status == 200
    relation = {"collection_many": "orders", "field_many": "payer", "collection_one": "customers"}
    assert (await client.post("~/relations", relation)).status == 200
    await adopt(client)
    found = (await client.get("~/fields/orders/customer")).data
    assert (found["type"], found["interface"], found["note"]) == ("integer", "numeric", "as a number")
    assert (await client.get("~/collections/orders")).data["note"] == "mine"


@ensureDeferred
async def test_a_column_with_several_foreign_keys_has_one_relation(client: Client) -> None:
    await make(
        client,
        "CREATE TABLE people (id serial PRIMARY KEY, code integer UNIQUE, name text);"
        "CREATE TABLE members (id integer PRIMARY KEY REFERENCES people);"
        "CREATE TABLE cards (id serial PRIMARY KEY, holder integer,"
        " CONSTRAINT a FOREIGN KEY (holder) REFERENCES people (code), CONSTRAINT b FOREIGN KEY (holder) REFERENCES people,"
        " CONSTRAINT c FOREIGN KEY (holder) REFERENCES people, CONSTRAINT d FOREIGN KEY (holder) REFERENCES members)",
    )
    done = await adopt(client, tables=["people", "members", "cards"])
    rows = [(row["field_many"], row["collection_one"], row["field_one"]) for row in done["relations"]]
    assert sorted(rows) == [("holder", "people", "cards"), ("id", "people", "members")]
    reasons = {each["name"]: each["reason"] for each in done["left_out"]}
    assert sorted(reasons) == ["cards.a", "cards.c", "cards.d"]
    assert reasons["cards.c"] == reasons["cards.d"] == "Another foreign key of its column is the relation."
    assert len(await relations(client)) == 2


@ensureDeferred
async def test_describing_a_foreign_key_keeps_its_interface(client: Client) -> None:
    await shop(client)
    assert (await client.patch("~/fields/orders/customer", {"note": "who pays"})).status == 200
    found = (await client.get("~/fields/orders/customer")).data
    assert (found["type"], found["interface"], found["note"]) == ("m2o", "many-to-one", "who pays")
    assert (await client.patch("~/fields/orders/customer", {"interface": "numeric"})).data["interface"] == "numeric"


@ensureDeferred
async def test_a_failure_leaves_nothing_written(client: Client) -> None:
    await shop(client)
    session = Session(client.backend.projects.get(client.project).database)
    await session.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON directus_relations FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    assert (await client.post("~/schema/adopt", {})).status >= 400
    assert not any(
        each["managed"] for each in (await client.get("~/collections")).data if not each["collection"].startswith("directus_")
    )


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ({"tables": ["order"]}, "orders"),
        ({"tables": ["directus_users"]}, "directus_users"),
        ({"tables": "orders"}, "tables"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"table": ["orders"]}, "table"),
    ],
)
@ensureDeferred
async def test_mistakes_are_refused_by_name(client: Client, payload: dict[str, Any], word: str) -> None:
    await shop(client)
    answer = await client.post("~/schema/adopt", payload)
    assert 400 <= answer.status < 500
    assert word in answer.json["error"]["message"]


@ensureDeferred
async def test_only_administrators_adopt(client: Client) -> None:
    assert (await client.post("~/schema/adopt", {}, token=None)).status == 401


@ensureDeferred
async def test_a_column_that_needs_a_value_stays_required_when_it_is_described(client: Client) -> None:
    await make(client, "CREATE TABLE notes (id serial PRIMARY KEY, text text NOT NULL)")
    assert (await client.get("~/fields/notes/text")).data["required"] is True
    changed = await client.patch("~/fields/notes/text", {"note": "of the note"})
    assert changed.data["required"] is True
    assert (await client.patch("~/fields/notes/text", {"required": False})).data["required"] is False


@ensureDeferred
async def test_deleting_a_collection_deletes_the_lists_of_its_items(client: Client) -> None:
    await shop(client)
    await adopt(client)
    assert (await client.delete("~/collections/products_tags")).status == 204
    for collection, name in (("products", "tags"), ("tags", "products")):
        assert (await client.get(f"~/fields/{collection}/{name}")).status == 404
        assert (await client.get(f"~/items/{collection}?fields=*.*")).status == 200
