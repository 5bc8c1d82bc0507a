"""The OpenAPI 3.1 document of a project. It is made from the schema and the route table, and contains the collections, fields and routes
that the caller may use."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from directus_tx import __version__
from directus_tx.access import Access, Grant
from directus_tx.compile.operators import OPERATORS
from directus_tx.http.operations import ANY, INDEX, INDEXES, WANTED_INDEX, Header, Items, Operation, Parameters, Shape
from directus_tx.http.routes import Caller, Route
from directus_tx.schema.custom import CustomSchema
from directus_tx.schema.datatypes import family, is_json, maximum_length
from directus_tx.schema.model import Field

Json = dict[str, Any]
ITEMS = "/<project>/items/<collection>"
ERROR, META, PAYLOAD = "Answer.Error", "Answer.Meta", "Payload"
"""Names of components. `component` cannot return the first two, or a name that ends with ".Payload"."""

_ABOUT = (
    "The document has the collections, fields and routes that the caller may use. Sign in with `/auth/authenticate` and send the token of"
    " its answer in the header Authorization to see more. Answers are objects with `data`, and with `public` if the caller is not"
    " signed in."
)

_PATH_PARAMETERS: Mapping[str, str] = {
    "collection": "The name of a collection.",
    "ids": "The key of an item, or several keys separated by commas.",
    "key": "The key of an item.",
    "name": "The name.",
    "names": "A name, or several names separated by commas.",
    "offset": "The number of a revision of the item. The oldest is 0.",
    "provider": "The name of a provider of single sign-on.",
    "delivery": "The id of a delivery of the webhook.",
    "resource": "The id of a resource of SCIM.",
    "revision": "The id of a revision of the item.",
    "session": "The id of a session of the user.",
    "token": "The token of an invitation.",
    "user": "The id of a user.",
}

_ERRORS: Mapping[str, tuple[str, str, int, str]] = {
    "400": ("BadRequest", "The request cannot be read.", 13, "The body is not valid JSON."),
    "401": ("Unauthorized", "The caller is not signed in, or the token is not valid.", 3, "Sign in to do this."),
    "403": ("Forbidden", "The caller may not do this.", 300, "You may not read items of this collection."),
    "404": ("NotFound", "There is no such item, collection or field.", 203, 'There is no such item in "articles".'),
    "409": ("Conflict", "The change conflicts with stored items.", 204, "An item with this value exists already."),
    "413": ("PayloadTooLarge", "The body is larger than the server accepts.", 601, "The body is too large."),
    "422": ("Invalid", "The query or the payload is not valid.", 4, '"year" takes a number.'),
    "429": ("TooManyRequests", "There were too many requests. Retry-After says when to try again.", 7, "Try again in 5 seconds."),
    "503": ("Unavailable", "The server cannot answer now. Retry-After says when to try again.", 16, "Try again shortly."),
}
"""The errors by status: the name of the component, a description, and an example of the code and the message."""

_WRITE_ERRORS = ("400", "409", "413")
"""The errors of routes that take a payload, besides those of all routes."""

_LIST_PARAMETERS: tuple[tuple[str, Json, str], ...] = (
    ("fields", {"type": "string"}, "Fields to return: names, *, or paths of relations with dots; comma-separated."),
    ("sort", {"type": "string"}, "Fields to sort by, descending with a minus in front; comma-separated."),
    ("limit", {"type": "integer"}, "Maximum number of items. Negative: no maximum."),
    ("offset", {"type": "integer", "minimum": 0}, "Number of items to skip."),
    ("page", {"type": "integer", "minimum": 1}, "Number of the page, if there is a limit."),
    (
        "cursor",
        {"type": "string"},
        "The next_cursor or previous_cursor of the meta of another page of the list; empty for its first page.",
    ),
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


_MORE: Mapping[str, tuple[Json, Json]] = {
    "directus_collections": ({"indexes": dict(INDEXES)}, {"indexes": dict(INDEXES)}),
    "directus_fields": ({"index": dict(INDEX)}, {"index": dict(WANTED_INDEX)}),
}
"""Attributes of items in answers and in payloads, by collection, that are not fields of it. They are for administrators."""


def document(access: Access, project: str, routes: Iterable[Route], systems: Mapping[str, str]) -> Json:
    """Returns the document, without the URL of the server. *systems* maps the first parts of paths to system collections."""
    readable = {name: grant for name in access.schema.collections if (grant := access.grant(name)).read}
    builder = _Builder(access, readable)
    for route in routes:
        if not route.path.startswith("/<project>") or not route.admits(access.accountability):
            continue
        if route.path.endswith("/"):
            # The path without the slash has the same routes.
            continue
        head = route.tag
        if route.path.startswith(ITEMS):
            for name, grant in readable.items():
                if not grant.collection.system:
                    builder.add(route, route.path.replace("<collection>", quote(name, safe="")), grant, head)
        elif head in systems:
            if systems[head] in readable:
                builder.add(route, route.path, readable[systems[head]], head)
        else:
            builder.add(route, route.path, None, head)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": access.schema.setting("project_name") or project,
            "version": __version__,
            "description": _ABOUT,
            "contact": {"name": "The administrators of the server"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"bearer": []}, {"basic": []}, {"parameter": []}, {"cookie": []}, {}],
        "tags": [{"name": tag} for tag in sorted(builder.tags)],
        "paths": builder.paths,
        "components": {
            "schemas": builder.schemas(),
            "responses": {name: _error_response(about, code, message) for name, about, code, message in _ERRORS.values()}
            | {"Error": _error_response("Any other error", 0, "The server failed. The id of the request is 0123456789abcdef.")},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token: of a sign-in, or of a user."},
                "basic": {"type": "http", "scheme": "basic", "description": "The token is the user name; the password is empty."},
                "parameter": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "access_token",
                    "description": "A token. Prefer a header: URLs are stored in logs.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": f"directus-{project}-session",
                    "description": "The cookie of a sign-in with the mode cookie.",
                },
            },
        },
    }


class _Builder:
    """Collects the paths, the tags and the payloads of a document."""

    def __init__(self, access: Access, readable: Mapping[str, Grant]) -> None:
        self.access = access
        self.readable = readable
        self.paths: dict[str, Json] = {}
        self.tags: set[str] = set()
        self._shapes: dict[str, str] = {}
        self._used: set[tuple[str, bool]] = set()
        """The components that are used: names of collections, with whether it is the payload."""

    # schemas

    def schemas(self) -> Json:
        """Returns the components that the paths use, directly or through relations."""
        code_and_message = {"code": {"type": "integer"}, "message": {"type": "string"}}
        error = _object(code_and_message, required=list(code_and_message))
        found = {
            ERROR: _object({"error": error}, required=["error"]),
            META: _META,
        }
        # Items have items of other collections, which are added while the first are made.
        done: set[tuple[str, bool]] = set()
        while todo := sorted(self._used - done):
            for name, payload in todo:
                grant = self.readable[name]
                found[_component(name, payload=payload)] = self.payload(grant) if payload else self.item(grant)
            done.update(todo)
        return found

    def item(self, grant: Grant) -> Json:
        """Returns the schema of an item of a collection in answers."""
        collection = grant.collection
        properties = {
            name: self.field(field)
            for name, field in collection.fields.items()
            if name not in grant.hidden and (field.has_column or self.lists(field))
        }
        schema = _object(properties | self.more(collection.collection, payload=False))
        if collection.note and "note" not in self.access.grant("directus_collections").hidden:
            schema["description"] = collection.note
        return schema

    def payload(self, grant: Grant) -> Json:
        """Returns the schema of an item of a collection in payloads."""
        collection = grant.collection
        permissions = grant.permissions
        unwritable = {n for n in collection.fields if n in grant.hidden or all(n in each.unwritable for each in permissions)}
        properties = {
            name: self.written(field)
            for name, field in collection.fields.items()
            if name not in unwritable and not field.computed and (field.has_column or self.lists(field))
        }
        return _object(properties | self.more(collection.collection, payload=True))

    def more(self, collection: str, *, payload: bool) -> Json:
        """Returns the attributes of items that are not fields."""
        found = _MORE.get(collection)
        return {} if found is None or not self.access.accountability.admin else found[payload]

    def lists(self, field: Field) -> bool:
        """Whether answers show a one-to-many field: the caller must be able to read the related collection and its many-to-one field."""
        relation = self.access.schema.one_to_many.get((field.collection, field.field))
        many = None if relation is None else self.readable.get(relation.collection_many)
        return relation is not None and many is not None and relation.field_many not in many.hidden

    def field(self, field: Field) -> Json:
        """Returns the schema of the value of a field in answers."""
        schema = self.access.schema
        if not field.has_column:
            return {
                "type": "array",
                "items": self._ref(self.readable[schema.one_to_many[field.collection, field.field].collection_many]),
            }
        found = _value(field)
        one = self._one(field)
        if one is not None:
            found = {"anyOf": [found, self._ref(one), {"type": "null"}]}
        hidden = self.access.grant("directus_fields").hidden
        if field.note and "note" not in hidden:
            found["description"] = field.note
        if field.readonly and "readonly" not in hidden:
            found["readOnly"] = True
        return found

    def written(self, field: Field) -> Json:
        """Returns the schema of the value of a field in payloads. Related items can be given by key, or as payloads that are written."""
        if not field.has_column:
            many = self.readable[self.access.schema.one_to_many[field.collection, field.field].collection_many]
            if many.collection.key is None:
                return {"type": "array", "maxItems": 0}
            marked = {"allOf": [self._ref(many, payload=True), _object({"$delete": {"type": "boolean"}})]}
            return {"type": "array", "items": {"anyOf": [_value(many.collection.primary_key), marked]}}
        found = _value(field)
        one = self._one(field)
        return found if one is None else {"anyOf": [found, self._ref(one, payload=True)]}

    def _one(self, field: Field) -> Grant | None:
        """Returns the grant of the collection that a many-to-one field refers to, if the caller may read it."""
        relation = self.access.schema.many_to_one.get((field.collection, field.field))
        return None if relation is None else self.readable.get(relation.collection_one or "")

    def _ref(self, grant: Grant, *, payload: bool = False) -> Json:
        name = grant.collection.collection
        self._used.add((name, payload))
        return {"$ref": f"#/components/schemas/{_component(name, payload=payload)}"}

    def _schema(self, shown: Items | Mapping[str, Any], grant: Grant | None, *, payload: bool = False) -> Json:
        """Returns the schema of the data or the payload of an operation."""
        if not isinstance(shown, Items):
            found: Json = dict(shown)
            if "properties" in found:
                found["properties"] = {name: self._schema(each, grant) for name, each in found["properties"].items()}
            for kind in ("allOf", "anyOf"):
                if kind in found:
                    found[kind] = [self._schema(each, grant, payload=payload) for each in found[kind]]
            return found
        named = self.readable.get(shown.collection) if shown.collection else grant
        if named is None:
            item: Json = dict(ANY)
        else:
            item = self._ref(named, payload=payload)
        items = {"type": "array", "items": item}
        return {Shape.ITEM: item, Shape.LIST: items, Shape.EITHER: {"anyOf": [item, items]}}[shown.shape]

    # paths

    def add(self, route: Route, path: str, grant: Grant | None, head: str) -> None:
        """Adds the operation of a route, if the caller may use it."""
        allowed = {"POST": "create", "PATCH": "update", "DELETE": "delete"}.get(route.method, "read")
        if grant is not None and not grant.allows(allowed):
            return
        if grant is not None and grant.collection.key is None and re.search("<(ids|key)>", route.path):
            return
        about = route.about
        # Paths that differ only in the names of their parameters are the same path.
        path = path.removeprefix("/<project>") or "/"
        path = self._shapes.setdefault(re.sub(r"<\w+>", "<>", path), path)
        names = re.findall(r"<(\w+)>", path)
        path = re.sub(r"<(\w+)>", r"{\1}", path)
        tag = grant.collection.collection if grant is not None else head or "project"
        self.tags.add(tag)
        operation: Json = {
            "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{path}").rstrip("_"),
            "summary": about.summary,
            "description": f"{about.summary}. {_CALLERS[route.caller]}",
            "tags": [tag],
            "parameters": [
                {"name": n, "in": "path", "required": True, "description": _described(n), "schema": {"type": "string"}}
                for n in names
            ]
            + _query_parameters(about, self.access.schema.custom)
            + [_header(each) for each in about.headers],
        }
        bodies = about.bodies if about.payload is None else {"application/json": about.payload, **about.bodies}
        if bodies:
            content = {media_type: {"schema": self._schema(each, grant, payload=True)} for media_type, each in bodies.items()}
            operation["requestBody"] = {"required": not about.optional, "content": content}
        operation["responses"] = self._responses(about, grant)
        self.paths.setdefault(path, {})[route.method.lower()] = operation

    def _responses(self, about: Operation, grant: Grant | None) -> Json:
        if about.data is None:
            status = about.status or 204
            found: Json = {str(status): {"description": "A redirect" if status == 302 else "Done"}}
        else:
            data = self._schema(about.data, grant)
            content = {about.media_type: {"schema": data}} if about.media_type else _json(_envelope(data))
            found = {str(about.status or 200): {"description": "The answer", "content": content}}
        writes = about.payload is not None or about.bodies
        statuses = [status for status in _ERRORS if writes or status not in _WRITE_ERRORS]
        found |= {status: {"$ref": f"#/components/responses/{_ERRORS[status][0]}"} for status in statuses}
        return found | {"default": {"$ref": "#/components/responses/Error"}}


def _header(header: Header) -> Json:
    schema = {"type": "string", **({"pattern": header.pattern} if header.pattern else {})}
    found = {"name": header.name, "in": "header", "required": header.required, "description": header.description}
    return {**found, "schema": schema}


def _described(argument: str) -> str:
    """Returns the description of an argument of a path. Those of plugins' routes have none but their name."""
    return _PATH_PARAMETERS.get(argument, f'The argument "{argument}".')


_CALLERS: Mapping[Caller, str] = {
    Caller.ANONYMOUS: "A token is ignored.",
    Caller.READER: "A token is ignored, unless the setting private_assets is true: then permissions on the file decide.",
    Caller.PUBLIC: "Permissions decide what the caller may read and write.",
    Caller.SIGNED_IN: "The caller must be signed in.",
    Caller.ACTIVATING: "The caller must be signed in, and may lack the second factor that the role enforces.",
    Caller.ADMINISTRATOR: "The caller must be an administrator.",
}


_COUNT: Json = {"type": "integer"}
_LINK: Json = {"type": ["string", "null"]}

_META: Json = {
    "type": "object",
    "description": "What the parameter meta asks for, and the cursors if the request has one.",
    "additionalProperties": True,
    "properties": {
        "collection": {"type": "string"},
        "type": {"type": "string", "enum": ["item", "collection"]},
        "result_count": {**_COUNT, "description": "The number of items in the answer."},
        "total_count": {**_COUNT, "description": "The number of items in the collection."},
        "filter_count": {**_COUNT, "description": "The number of items that match the filter."},
        "status_count": {
            "type": "object",
            "additionalProperties": _COUNT,
            "description": "The number of items with each status.",
        },
        **dict.fromkeys(("limit", "offset", "page", "page_count"), _COUNT),
        "next_cursor": {**_LINK, "description": "The cursor of the next page, null on the last one."},
        "previous_cursor": {**_LINK, "description": "The cursor of the previous page, null on the first one."},
        "links": {
            "type": "object",
            "description": "URLs of this page and others of the list.",
            "properties": dict.fromkeys(("self", "current", "next", "previous", "first", "last"), _LINK),
        },
    },
}


def _envelope(data: Json) -> Json:
    return _object(
        {"data": data, "meta": {"$ref": f"#/components/schemas/{META}"}, "public": {"type": "boolean"}}, required=["data"]
    )


def _error_response(about: str, code: int, message: str) -> Json:
    example = {"error": {"code": code, "message": message}}
    content = {"schema": {"$ref": f"#/components/schemas/{ERROR}"}, "example": example}
    return {"description": about, "content": {"application/json": content}}


def _query_parameters(about: Operation, custom: CustomSchema) -> list[Json]:
    chosen = {Parameters.NONE: (), Parameters.FIELDS: _LIST_PARAMETERS[:1], Parameters.QUERY: _LIST_PARAMETERS}[about.parameters]
    text: Json = {"type": "string"}
    named = (*chosen, *((name, text, description) for name, description in about.query))
    found: list[Json] = [{"name": n, "in": "query", "schema": schema, "description": each} for n, schema, each in named]
    more = {"filter": tuple(custom.operators), "aggregate": tuple(custom.aggregates)}
    for name, description in _MAPS if about.parameters is Parameters.QUERY else ():
        of_plugins = more.get(name)
        if of_plugins:
            description = f"{description.rstrip('.')}. Of plugins: {', '.join(of_plugins)}."
        found.append(
            {
                "name": name,
                "in": "query",
                "style": "deepObject",
                "explode": True,
                "schema": {"type": "object", "additionalProperties": True},
                # Without an example, viewers send one that they make up.
                "example": {},
                "description": description,
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
    if field.custom is not None and field.custom.show is not None:
        return dict(field.custom.schema)
    if is_json(field):
        return {}
    if field.native is not None and field.native.member is not None:
        return {"type": ["array", "null"], "items": {}}
    if field.native is not None and field.native.labels:
        return {"type": ["string", "null"], "enum": [*field.native.labels, None]}
    if field.type == "json":
        return {"type": ["object", "array", "null"], "additionalProperties": True, "items": {}}
    if field.type == "array":
        return {"type": "array", "items": {"type": "string"}}
    if field.type == "boolean":
        return {"type": "boolean"}
    kind = family(field)
    if kind == "integer" and field.datatype == "BIGINT":
        return {"type": ["string", "null"], "pattern": "^-?[0-9]+$"}
    found = dict(_KINDS.get(kind, {"type": ["string", "null"]}))
    if kind == "number" and not field.declared:
        # NaN and infinity are shown as texts.
        found["type"] = ["number", "string", "null"]
    length = maximum_length(field)
    if length is not None and field.type != "hash":
        found["maxLength"] = length
    return found


def _object(properties: Json, required: Sequence[str] = ()) -> Json:
    return {"type": "object", **({"required": list(required)} if required else {}), "properties": properties}


def _component(name: str, *, payload: bool) -> str:
    return f"{component(name)}.{PAYLOAD}" if payload else component(name)


def component(name: str) -> str:
    """Returns the name of the component of a collection. Letters, digits, dashes and underscores are kept; each byte of any other
    character is replaced by a dot and two hexadecimal digits."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda m: "".join(f".{byte:02X}" for byte in m[0].encode()), name)


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
