"""The OpenAPI 3.1 document of a project. It is made from the schema and the route table, and contains the collections, fields and routes
that the caller may use."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from directus_tx import __version__
from directus_tx.access import Access, Grant
from directus_tx.compile.operators import OPERATORS
from directus_tx.http.routes import Route
from directus_tx.schema.datatypes import family, maximum_length
from directus_tx.schema.model import Field

Json = dict[str, Any]
ITEMS = "/<project>/items/<collection>"
ERROR, META = "Answer.Error", "Answer.Meta"
"""Names of components. `component` cannot return them for a collection."""

_LIST_PARAMETERS: tuple[tuple[str, Json, str], ...] = (
    ("fields", {"type": "string"}, "Fields to return: names, *, or paths of relations with dots; comma-separated."),
    ("sort", {"type": "string"}, "Fields to sort by, descending with a minus in front; comma-separated."),
    ("limit", {"type": "integer"}, "Maximum number of items. Negative: no maximum."),
    ("offset", {"type": "integer", "minimum": 0}, "Number of items to skip."),
    ("page", {"type": "integer", "minimum": 1}, "Number of the page, if there is a limit."),
    ("single", {"type": "string", "enum": ["0", "1"]}, "1: return the first item instead of a list."),
    ("status", {"type": "string"}, "Statuses of the items, or * for all; comma-separated."),
    ("q", {"type": "string"}, "Text to search for in the texts and numbers of items."),
    ("meta", {"type": "string"}, "Metadata to return, or * for all; comma-separated."),
    ("lang", {"type": "string"}, "Languages of translations; comma-separated."),
    ("groups", {"type": "string"}, "Fields to group by: one item is returned for each of their values; comma-separated."),
    ("groupby", {"type": "string"}, "Fields to group aggregates by; comma-separated."),
    ("export", {"type": "string", "enum": ["csv", "json"]}, "Return the items as a file to download."),
    (
        "export_raw",
        {"type": "string", "enum": ["0", "1"]},
        "1: do not put apostrophes in front of texts that look like formulas in CSV.",
    ),
)
_MAPS: tuple[tuple[str, str], ...] = (
    (
        "filter",
        "Conditions: filter[field][operator]=value. Operators: " + ", ".join(name for name in OPERATORS if name.isalpha()),
    ),
    ("aggregate", "Aggregate functions, whose results are returned instead of items: aggregate[function]=field."),
    ("deep", "filter, sort, limit and offset for lists of related items: deep[path][limit]=5."),
)


def document(access: Access, base: str, project: str, routes: Iterable[Route], systems: Mapping[str, str]) -> Json:
    """Returns the document. *base* is the URL of the server; *systems* maps the first parts of paths to system collections."""
    readable = {name: grant for name in access.schema.collections if (grant := access.grant(name)).read}
    builder = _Builder(access, readable)
    paths: dict[str, Json] = {}
    for route in routes:
        if not route.in_project or not route.admits(access.accountability):
            continue
        head = route.path.split("/")[2] if route.path.count("/") > 1 else ""
        if route.path.startswith(ITEMS):
            for name, grant in readable.items():
                if not grant.collection.system:
                    path = route.path.replace("<collection>", quote(name, safe=""))
                    builder.add(paths, route, path, grant, head)
        elif head in systems:
            if systems[head] in readable:
                builder.add(paths, route, route.path, readable[systems[head]], head)
        else:
            builder.add(paths, route, route.path, None, head)
    return {
        "openapi": "3.1.0",
        "info": {"title": access.schema.setting("project_name") or project, "version": __version__},
        "servers": [{"url": f"{base}/{project}"}],
        "security": [{"bearer": []}, {"basic": []}, {"parameter": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {
                ERROR: _object({"error": _object({"code": {"type": "integer"}, "message": {"type": "string"}})}),
                META: {"type": "object"},
                **{component(name): builder.item(grant) for name, grant in readable.items()},
            },
            "responses": {"Error": {"description": "Error", "content": _json({"$ref": f"#/components/schemas/{ERROR}"})}},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token is the user name; the password is empty."},
                "parameter": {"type": "apiKey", "in": "query", "name": "access_token"},
            },
        },
    }


class _Builder:
    def __init__(self, access: Access, readable: Mapping[str, Grant]) -> None:
        self.access = access
        self.readable = readable

    def item(self, grant: Grant) -> Json:
        """Returns the schema of an item of a collection."""
        collection = grant.collection
        properties = {
            name: self.field(field)
            for name, field in collection.fields.items()
            if name not in grant.hidden and (field.has_column or self.lists(field))
        }
        schema = _object(properties)
        if collection.note and "note" not in self.access.grant("directus_collections").hidden:
            schema["description"] = collection.note
        return schema

    def lists(self, field: Field) -> bool:
        """Whether answers show a one-to-many field: the caller must be able to read the related collection and its many-to-one field."""
        relation = self.access.schema.one_to_many.get((field.collection, field.field))
        many = None if relation is None else self.readable.get(relation.collection_many)
        return relation is not None and many is not None and relation.field_many not in many.hidden

    def field(self, field: Field) -> Json:
        """Returns the schema of the value of a field in answers."""
        place = (field.collection, field.field)
        schema = self.access.schema
        if not field.has_column:
            return {"type": "array", "items": _ref(schema.one_to_many[place].collection_many)}
        found = _value(field)
        one = schema.many_to_one.get(place)
        if one is not None and one.collection_one in self.readable:
            found = {"anyOf": [found, _ref(one.collection_one), {"type": "null"}]}
        hidden = self.access.grant("directus_fields").hidden
        if field.note and "note" not in hidden:
            found["description"] = field.note
        if field.readonly and "readonly" not in hidden:
            found["readOnly"] = True
        return found

    def add(self, paths: dict[str, Json], route: Route, path: str, grant: Grant | None, head: str) -> None:
        """Adds the operation of a route, if the caller may use it."""
        allowed = {"POST": "create", "PATCH": "update", "DELETE": "delete"}.get(route.method, "read")
        if grant is not None and not grant.allows(allowed):
            return
        names = re.findall(r"<(\w+)>", path.removeprefix("/<project>"))
        path = re.sub(r"<(\w+)>", r"{\1}", path.removeprefix("/<project>")) or "/"
        one = bool(names)
        operation: Json = {
            "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{path}").rstrip("_"),
            "tags": [grant.collection.collection if grant is not None else head or "project"],
            "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
            "responses": {"default": {"$ref": "#/components/responses/Error"}},
        }
        if route.method == "GET" and grant is not None:
            operation["parameters"] += _query_parameters(only_fields=one)
        if route.method in ("POST", "PATCH"):
            shown = _ref(grant.collection.collection) if grant is not None else {"type": "object"}
            many = {"anyOf": [shown, {"type": "array", "items": shown}]} if not one else shown
            operation["requestBody"] = {"required": True, "content": _json(many)}
        if route.method == "DELETE":
            operation["responses"]["204"] = {"description": "Done"}
        else:
            operation["responses"]["200"] = {"description": "The answer", "content": _json(_envelope(grant, one=one))}
        paths.setdefault(path, {})[route.method.lower()] = operation


def _envelope(grant: Grant | None, *, one: bool) -> Json:
    if grant is None:
        data: Json = {}
    else:
        item = _ref(grant.collection.collection)
        data = {"anyOf": [item, {"type": "array", "items": item}]} if one else {"type": "array", "items": item}
    return _object({"data": data, "meta": {"$ref": f"#/components/schemas/{META}"}, "public": {"type": "boolean"}})


def _query_parameters(*, only_fields: bool) -> list[Json]:
    chosen = _LIST_PARAMETERS[:1] if only_fields else _LIST_PARAMETERS
    found: list[Json] = [{"name": n, "in": "query", "schema": schema, "description": about} for n, schema, about in chosen]
    for name, about in () if only_fields else _MAPS:
        found.append(
            {
                "name": name,
                "in": "query",
                "style": "deepObject",
                "explode": True,
                "schema": {"type": "object"},
                "description": about,
            }
        )
    return found


_KINDS: Mapping[str, Json] = {
    "integer": {"type": ["integer", "null"]},
    "number": {"type": ["number", "null"]},
    "boolean": {"type": "boolean"},
    "date": {"type": ["string", "null"], "format": "date"},
    "uuid": {"type": ["string", "null"], "format": "uuid"},
}


def _value(field: Field) -> Json:
    if field.type == "json":
        return {"type": ["object", "array", "null"]}
    if field.type == "array":
        return {"type": "array", "items": {"type": "string"}}
    if field.type == "boolean":
        return {"type": "boolean"}
    kind = family(field)
    if kind == "integer" and field.datatype == "BIGINT":
        return {"type": ["string", "null"], "pattern": "^-?[0-9]+$"}
    found = dict(_KINDS.get(kind, {"type": ["string", "null"]}))
    length = maximum_length(field)
    if length is not None and field.type != "hash":
        found["maxLength"] = length
    return found


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def _ref(name: str | None) -> Json:
    return {"$ref": f"#/components/schemas/{component(name or '')}"}


def component(name: str) -> str:
    """Returns the name of the component of a collection. Letters, digits, dashes and underscores are kept; each byte of any other
    character is replaced by a dot and two hexadecimal digits."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda m: "".join(f".{byte:02X}" for byte in m[0].encode()), name)


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
