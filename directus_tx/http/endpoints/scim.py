"""/:project/scim/v2: SCIM 2."""

from collections.abc import Mapping
from typing import Any

from directus_tx.errors import ItemNotFound, NotFound, NotSupported
from directus_tx.http import encode
from directus_tx.http.answers import Answer, Bare, Document
from directus_tx.http.operations import ANY, TEXT, Json, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.scim.dialects import MEDIA_TYPE, dialect_of
from directus_tx.scim.documents import Shown, shown_attributes
from directus_tx.scim.patch import is_patch
from directus_tx.scim.resources import Resources, Scim, Written
from directus_tx.scim.schemas import RESOURCE_TYPES, listed, schemas, service_provider_config
from directus_tx.scim.service import RESOURCES, USERS, names, search, search_of

routes = Routes()
SCIM = "/<project>/scim/v2"
VARY = {"Vary": "Accept"}
"""The header of all answers with resources, which have a form that depends on what the client accepts."""

LISTED = record(schemas={"type": "array", "items": TEXT}, totalResults={"type": "integer"})
_SHOWN = (
    ("attributes", "The attributes to return; comma-separated."),
    ("excludedAttributes", "The attributes to leave out; comma-separated."),
)
_SEARCH = (
    ("filter", 'A filter (RFC 7644, section 3.4.2.2), for example userName eq "ada@example.com".'),
    ("sortBy", "The attribute to sort by."),
    ("sortOrder", "ascending or descending."),
    ("startIndex", "The number of the first result, from 1."),
    ("count", "The maximum number of results."),
    *_SHOWN,
)


def _about(summary: str, data: Json | None = ANY, payload: Json | None = None, *, lists: bool = False) -> Operation:
    """Returns the description of a route."""
    query = _SEARCH if lists else _SHOWN if data is not None else ()
    return Operation(summary, data, payload, query=query, media_type=MEDIA_TYPE if data is not None else "")


def _request(call: Call) -> Scim:
    """Returns the request for the services of SCIM."""
    settings = call.services.settings.scim
    wanted = call.request.getHeader("if-match")
    return Scim(
        call.items,
        call.ctx,
        dialect_of(call.request.getHeader("accept"), settings.form),
        call.project.tag_key,
        settings.max_results,
        settings.max_members,
        call.params.options(),
        None if wanted is None else lambda version: encode.has_tag(wanted.encode(), version.encode()),
    )


def _shown(call: Call, resources: Resources) -> Shown:
    wanted = (names(call.params.text(name)) for name in ("attributes", "excludedAttributes"))
    return shown_attributes(resources.kind, *wanted)


def _document(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Document:
    return Document(value, {**VARY, **(headers or {})}, status, MEDIA_TYPE)


def _resource(call: Call, resources: Resources, document: dict[str, Any], shown: Shown, status: int = 200) -> Answer:
    """Returns the answer with a resource and its entity tag."""
    meta = document["meta"]
    headers = {"Location": meta["location"], "Content-Location": meta["location"]}
    if "version" in meta:
        headers["ETag"] = meta["version"]
        wanted = call.request.getHeader("if-none-match") if call.request.method in (b"GET", b"HEAD") else None
        if wanted is not None and encode.has_tag(wanted.encode(), meta["version"].encode()):
            return Bare(304, {**VARY, **headers})
    if status != 201:
        del headers["Location"]
    return _document(shown.of(resources.kind, document), status, headers)


def _written(call: Call, resources: Resources, written: Written, shown: Shown, status: int = 200) -> Answer:
    """Returns the answer for a resource that has been written. What cannot be shown is answered without a body."""
    if written.document is None:
        return Bare(204, {})
    return _resource(call, resources, written.document, shown, status)


# --- users and groups


def _serve(resources: Resources) -> None:
    kind = resources.kind
    path, one = f"{SCIM}/{kind.endpoint}", f"{SCIM}/{kind.endpoint}/<resource>"
    name = kind.name.lower()

    async def listing(call: Call) -> Answer:
        values = {n: value for n in dict(_SEARCH) if (value := call.params.text(n)) is not None}
        return _document(await search(resources, _request(call), search_of(values)))

    async def searching(call: Call) -> Answer:
        return _document(await search(resources, _request(call), search_of(await call.item())))

    async def creating(call: Call) -> Answer:
        shown = _shown(call, resources)
        return _written(call, resources, await resources.create(_request(call), await call.item()), shown, 201)

    async def reading(call: Call) -> Answer:
        shown = _shown(call, resources)
        return _resource(call, resources, await resources.read(_request(call), call.path["resource"], shown), shown)

    async def replacing(call: Call) -> Answer:
        shown, body = _shown(call, resources), await call.item()
        found = await resources.change(_request(call), call.path["resource"], body, patch=False)
        return _written(call, resources, found, shown)

    async def changing(call: Call) -> Answer:
        shown, body = _shown(call, resources), await call.item()
        found = await resources.change(_request(call), call.path["resource"], body, patch=is_patch(body))
        return _written(call, resources, found, shown)

    async def deleting(call: Call) -> Answer:
        await resources.delete(_request(call), call.path["resource"])
        return Bare(204, {})

    signed_in = Caller.SIGNED_IN
    routes.add("GET", path, listing, signed_in, _about(f"List {name}s for SCIM", LISTED, lists=True))
    routes.add("POST", path, creating, signed_in, _about(f"Create a {name} by SCIM", payload=ANY))
    routes.add("POST", f"{path}/.search", searching, signed_in, _about(f"Search {name}s by SCIM", LISTED, ANY), scoped=True)
    routes.add("GET", one, reading, signed_in, _about(f"Read a {name} for SCIM"))
    routes.add("PUT", one, replacing, signed_in, _about(f"Change a {name} by SCIM, as a whole", payload=ANY))
    routes.add("PATCH", one, changing, signed_in, _about(f"Change a {name} by SCIM", payload=ANY))
    routes.add("DELETE", one, deleting, signed_in, _about(f"Delete a {name} by SCIM", None))


for _resources in RESOURCES.values():
    _serve(_resources)


# --- the caller


def _user(call: Call) -> int:
    user = call.ctx.accountability.user
    if user is None:
        raise ItemNotFound("The caller is no user.")
    return user


@routes.get(f"{SCIM}/Me", Caller.SIGNED_IN, _about("Read the caller for SCIM"))
async def read_caller(call: Call) -> Answer:
    shown = _shown(call, USERS)
    return _resource(call, USERS, await USERS.read_key(_request(call), _user(call), shown), shown)


@routes.route("PUT", f"{SCIM}/Me", Caller.SIGNED_IN, _about("Change the caller by SCIM, as a whole", payload=ANY))
async def replace_caller(call: Call) -> Answer:
    shown, body = _shown(call, USERS), await call.item()
    return _written(call, USERS, await USERS.change_key(_request(call), _user(call), body, patch=False), shown)


@routes.patch(f"{SCIM}/Me", Caller.SIGNED_IN, _about("Change the caller by SCIM", payload=ANY))
async def change_caller(call: Call) -> Answer:
    shown, body = _shown(call, USERS), await call.item()
    return _written(call, USERS, await USERS.change_key(_request(call), _user(call), body, patch=is_patch(body)), shown)


# --- discovery


@routes.get(f"{SCIM}/ServiceProviderConfig", Caller.SIGNED_IN, _about("Say what the server supports of SCIM"))
async def read_config(call: Call) -> Answer:
    scim = _request(call)
    return _document(service_provider_config(scim.base, scim.max_results))


@routes.get(f"{SCIM}/ResourceTypes", Caller.SIGNED_IN, _about("List the types of SCIM resources"))
async def list_types(call: Call) -> Answer:
    scim = _request(call)
    return _document(listed([each.document(scim.base, standard=scim.dialect.standard) for each in RESOURCE_TYPES.values()]))


@routes.get(f"{SCIM}/ResourceTypes/<name>", Caller.SIGNED_IN, _about("Read a type of SCIM resources"))
async def read_type(call: Call) -> Answer:
    scim, found = _request(call), RESOURCE_TYPES.get(call.path["name"])
    if found is None:
        raise NotFound("There is no such resource type.")
    return _document(found.document(scim.base, standard=scim.dialect.standard))


@routes.get(f"{SCIM}/Schemas", Caller.SIGNED_IN, _about("List the SCIM schemas"))
async def list_schemas(call: Call) -> Answer:
    scim = _request(call)
    return _document(listed([each.document(scim.base) for each in schemas(standard=scim.dialect.standard)]))


@routes.get(f"{SCIM}/Schemas/<name>", Caller.SIGNED_IN, _about("Read a SCIM schema"))
async def read_schema(call: Call) -> Answer:
    scim = _request(call)
    found = next((each for each in schemas(standard=True) if each.id.lower() == call.path["name"].lower()), None)
    if found is None:
        raise NotFound("There is no such schema.")
    return _document(found.document(scim.base))


# --- what is not supported


@routes.post(f"{SCIM}/Bulk", Caller.SIGNED_IN, _about("Bulk operations of SCIM, which are not supported", payload=ANY))
async def bulk(call: Call) -> Answer:
    raise NotSupported("Bulk operations are not supported: send a request for each resource.")


@routes.post(f"{SCIM}/.search", Caller.SIGNED_IN, _about("Search all SCIM resources, which is not supported", payload=ANY))
async def search_everything(call: Call) -> Answer:
    raise NotSupported("Users and groups are searched each by themselves: /Users/.search, /Groups/.search.")
