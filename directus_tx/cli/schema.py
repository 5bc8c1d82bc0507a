"""directus schema."""

from typing import Any

import click
from attrs import asdict

from directus_tx.access import access_of
from directus_tx.cli.command import Environment, online
from directus_tx.query import WriteOptions
from directus_tx.schema.model import Collection, Relation, Snapshot
from directus_tx.schema_service import adopt


@click.group(short_help="Show and adopt the tables of a project.")
def schema() -> None:
    """Show the tables of a project, describe those that the server has not made, and have them read again."""


@schema.command(short_help="Show the collections or the fields of one.")
@click.argument("key", metavar="PROJECT")
@click.argument("collection", required=False)
@online
async def show(environment: Environment, key: str, collection: str | None) -> None:
    """Show the collections of a project and what is left out, or the fields of one COLLECTION.

    \b
    Examples:
      directus schema show shop
      directus schema show shop orders
      directus schema show shop --json
    """
    ctx = await environment.context(key)
    found = ctx.schema
    output = environment.output
    if collection is not None:
        fields = _fields(found, access_of(ctx).grant(collection).collection)
        columns = ("field", "type", "interface", "datatype", "column", "relation")
        output.table(fields, columns, [[each[name] for name in columns] for each in fields])
        return
    described = [{**_about(each), "fields": _fields(found, each)} for each in found.collections.values() if not each.system]
    left_out = [*found.left_out, *(each.left_out for each in found.foreign_keys if each.left_out is not None)]
    if output.as_json:
        output.json({"collections": described, "left_out": [asdict(each) for each in left_out]})
        return
    names = ("collection", "kind", "key", "managed", "fields", "cannot")
    rows = [[each[name] if name != "fields" else len(each["fields"]) for name in names] for each in described]
    output.table(described, names, rows)
    for each in left_out:
        output.note(f"left out: {each.kind} {each.name}: {each.reason}")


def _about(collection: Collection) -> dict[str, Any]:
    """Returns what a collection is, and which writes are not possible."""
    keys = collection.key_columns if collection.key is None else (collection.key.field,)
    return {
        "collection": collection.collection,
        "kind": collection.kind,
        "key": ", ".join(keys),
        "managed": collection.managed,
        "cannot": ", ".join(collection.refused),
    }


def _fields(found: Snapshot, collection: Collection) -> list[dict[str, Any]]:
    """Returns the fields of a collection with their columns and relations."""
    relations = found.relations_of[collection.collection]
    return [
        {
            "field": each.field,
            "type": each.type,
            "interface": each.interface,
            "datatype": f"{each.datatype}({each.length})" if each.datatype and each.length else each.datatype,
            "column": each.domain or each.column_type,
            "relation": None if each.field not in relations else _other_side(relations[each.field], many=each.has_column),
        }
        for each in collection.fields.values()
    ]


def _other_side(relation: Relation, *, many: bool) -> str:
    """Returns what a relational field leads to. *many*: the field is the many-to-one field."""
    if many:
        return f"{relation.collection_one}" + ("" if relation.id is not None else " (not in directus_relations)")
    return f"{relation.collection_many}.{relation.field_many}" + (
        f" -> {relation.junction_field}" if relation.junction_field else ""
    )


@schema.command("adopt", short_help="Describe tables that the server has not made.")
@click.argument("key", metavar="PROJECT")
@click.option("--tables", metavar="NAMES", help="Only these collections, separated by commas.  [default: all]")
@click.option("--dry-run", is_flag=True, help="Write nothing, but show what would be written.")
@online
async def adopt_tables(environment: Environment, key: str, tables: str | None, dry_run: bool) -> None:
    """Describe tables that the server has not made: manage them, give their fields interfaces, and make relations of foreign keys.

    Only rows of directus_collections, directus_fields and directus_relations are written. What is described already stays as it is.

    \b
    Examples:
      directus schema adopt shop --dry-run
      directus schema adopt shop --tables orders,customers
    """
    ctx = await environment.context(key)
    names = None if tables is None else [each.strip() for each in tables.split(",") if each.strip()]
    with environment.output.working("reading the tables"):
        found = await adopt(environment.backend.items, ctx, names, WriteOptions(), dry_run=dry_run)
    verb = "would be " if dry_run else ""
    lines = [f"collection {name}: {verb}managed" for name in found["collections"]]
    lines += [
        f"field {each['collection']}.{each['field']}: {verb}described as {each['type']}, {each['interface']}"
        for each in found["fields"]
    ]
    lines += [f"relation {_written(each)}: {verb}{'changed' if 'id' in each else 'created'}" for each in found["relations"]]
    environment.output.result(found, *(lines or ["there is nothing to write"]))
    if not environment.output.as_json:
        for each in found["left_out"]:
            # A list that can only be read is made all the same.
            prefix = "" if each["kind"] == "field" else "left out: "
            environment.output.note(f"{prefix}{each['kind']} {each['name']}: {each['reason']}")


def _written(relation: dict[str, Any]) -> str:
    """Returns a relation as a line shows it."""
    if "id" in relation:
        return f"{relation['id']} ({relation['field_one']})"
    one = f"{relation['collection_one']}.{relation['field_one']}" if relation["field_one"] else relation["collection_one"]
    return f"{relation['collection_many']}.{relation['field_many']} to {one}"


@schema.command()
@click.argument("key", metavar="PROJECT")
@online
async def refresh(environment: Environment, key: str) -> None:
    """Have all running servers read the tables of a project again.

    They notice changes of other programs by themselves, within database.schema_interval. This command makes them do so at once.
    """
    ctx = await environment.context(key)
    before = ctx.schema
    await ctx.db.query("SELECT directus_touch('schema')")
    after = await environment.backend.projects.get(key).snapshot()
    number = sum(not each.system for each in after.collections.values())
    environment.output.result(
        {"project": key, "collections": number, "version": after.version, "before": before.version},
        f"project {key}: version {after.version} of the schema, {number} collections; running servers read it before their next answer",
    )
