"""The routes of the system collections, defined by the table ADDRESSES. The functions of `items` answer them."""

from collections.abc import Awaitable, Callable

from attrs import frozen

from directus_tx.access import access_of
from directus_tx.access.grant import WRITTEN_BY_TOKENS
from directus_tx.errors import NotFound, Unauthorized
from directus_tx.http.answers import Answer, Empty, Streamed
from directus_tx.http.endpoints import items
from directus_tx.http.operations import ANY, ITEM, TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number
from directus_tx.schema_service import read_setting_fields
from directus_tx.system.users import activate_two_factor, track_page

routes = Routes()


@frozen
class Address:
    """The routes of a system collection below a project.

    `methods` contains "c" for create, "r" for read, "u" for update, "b" for updates with a payload for each item, and "d" for delete.
    If `numbers`, keys that are not numbers raise NotFound. If `revisions`, there are routes for the revisions of an item.
    If `whole`, an updated item is answered with all fields; the parameter `fields` is ignored.
    """

    path: str
    collection: str
    methods: str = "crubd"
    numbers: bool = False
    revisions: bool = False
    whole: bool = False


ADDRESSES = (
    Address("activity", "directus_activity", "r"),
    Address("collection_presets", "directus_collection_presets"),
    Address("files", "directus_files", "rd", revisions=True),
    Address("folders", "directus_folders", numbers=True),
    Address("permissions", "directus_permissions", whole=True),
    Address("relations", "directus_relations"),
    Address("revisions", "directus_revisions", "r"),
    Address("roles", "directus_roles", whole=True),
    Address("settings", "directus_settings", numbers=True),
    Address("users", "directus_users", "crud", revisions=True),
    Address("webhooks", "directus_webhooks", "rubd", revisions=True),
)


USERS = next(address for address in ADDRESSES if address.path == "users")


def _ids(call: Call, address: Address) -> str:
    """Returns the keys of the path. For users, "me" is the caller. Raises NotFound, or Unauthorized for "me" if the caller is not signed
    in or may not read users."""
    ids = call.path["ids"]
    if address.numbers and any(whole_number(key) is None for key in call.keys(ids)):
        raise NotFound
    if address.collection == "directus_users" and ids == "me":
        who = call.ctx.accountability
        if who.user is None or not access_of(call.ctx).grant(address.collection).read:
            raise Unauthorized
        return str(who.user)
    return ids


def _serve(address: Address) -> None:
    path, name = f"/<project>/{address.path}", address.collection
    one = f"{path}/<ids>"

    def on(letter: str, method: str, path: str, work: Callable[[Call], Awaitable[Answer | Streamed]], about: Operation) -> None:
        if letter in address.methods:
            routes.add(method, path, work, Caller.PUBLIC, about, scoped=method == "GET" or name in WRITTEN_BY_TOKENS)

    on("r", "GET", path, lambda call: items.listing(call, name), items.LISTING)
    on("c", "POST", path, lambda call: items.creating(call, name), items.CREATING)
    on("b", "PATCH", path, lambda call: items.updating_many(call, name), items.UPDATING_MANY)
    on("r", "GET", one, lambda call: _with_ids(items.reading, call, address), items.READING)
    updating = _updating_whole if address.whole else items.updating
    on("u", "PATCH", one, lambda call: _with_ids(updating, call, address), items.UPDATING)
    on("d", "DELETE", one, lambda call: _with_ids(items.deleting, call, address), items.DELETING)
    if address.revisions:
        about = items.LISTING_REVISIONS
        routes.add("GET", f"{one}/revisions", lambda call: _with_ids(items.revisions, call, address), Caller.PUBLIC, about)

        async def revision(call: Call) -> Answer | Streamed:
            return await items.revision(call, name, _ids(call, address), call.path["offset"])

        routes.add("GET", f"{one}/revisions/<offset>", revision, Caller.PUBLIC, items.READING_REVISION)


@routes.get(
    "/<project>/settings/fields", Caller.PUBLIC, Operation("List the fields of the settings", {"type": "array", "items": ANY})
)
async def setting_fields(call: Call) -> Answer:
    return call.answer(read_setting_fields(call.ctx, call.query()))


@routes.patch(
    "/<project>/users/<ids>/tracking/page",
    Caller.SIGNED_IN,
    Operation("Store the page that a user has opened", ITEM, record(last_page=TEXT)),
)
async def tracking_page(call: Call) -> Answer:
    key = _ids(call, USERS)
    return call.answer(await track_page(call.items, call.ctx, key, await call.item(), call.query()))


@routes.post(
    "/<project>/users/<ids>/activate_2fa",
    Caller.ACTIVATING,
    Operation("Activate two-factor authentication", payload=record(**{"2fa_secret": TEXT, "otp": TEXT})),
)
async def activate_2fa(call: Call) -> Answer:
    ids, who = call.path["ids"], call.ctx.accountability
    await activate_two_factor(call.items, call.ctx, str(who.user) if ids == "me" else ids, await call.item())
    return Empty()


async def _updating_whole(call: Call, collection: str, ids: str) -> Answer:
    return await items.updating(call, collection, ids, whole=True)


async def _with_ids(
    work: Callable[[Call, str, str], Awaitable[Answer | Streamed]], call: Call, address: Address
) -> Answer | Streamed:
    return await work(call, address.collection, _ids(call, address))


for _address in ADDRESSES:
    _serve(_address)
