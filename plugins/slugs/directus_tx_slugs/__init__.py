"""Makes slugs of the texts of items, checks those that are sent, and finds items by them."""

import re
from typing import Any

from attrs import evolve, frozen
from slugify import slugify

from directus_tx.api import (
    ANY,
    Caller,
    Condition,
    Context,
    Envelope,
    Operation,
    Query,
    Request,
    Routes,
    Server,
    errors,
    hookimpl,
    setting,
)

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FIELD = re.compile(r"\s*(?P<collection>[^.=\s]+)\.(?P<slug>[^.=\s]+)\s*=\s*(?P<source>[^.=\s]+)\s*")
CANDIDATES = 50
"""The number of slugs that a statement looks for."""

DIGITS = 8
"""The characters that are left for a hyphen and a number."""


@frozen
class SlugSettings:
    """The section [plugins.slugs] of the configuration."""

    fields: tuple[str, ...] = setting(
        (), 'Fields that hold slugs, each with the field that it is made of: "articles.slug=title".'
    )
    max_length: int = setting(100, "Maximum length of a slug.")


@frozen
class SlugField:
    """A field that holds slugs, made of the texts of the field `source`."""

    collection: str
    name: str
    source: str


class Slugs:
    """The plugin."""

    directus_tx_api = 1

    def __init__(self) -> None:
        self.fields: dict[str, SlugField] = {}
        """By collection, which has one at most."""
        self.max_length = 0

    @hookimpl
    def register_settings(self) -> type:
        return SlugSettings

    @hookimpl
    def configure(self, server: Server) -> None:
        """Reads the settings. Raises ValueError."""
        self.max_length = server.settings.max_length
        if self.max_length <= DIGITS:
            raise ValueError(f"max_length must be more than {DIGITS}")
        for text in server.settings.fields:
            found = _FIELD.fullmatch(text)
            if found is None:
                raise ValueError(f'fields: "{text}" is not like "articles.slug=title"')
            if found["collection"] in self.fields:
                raise ValueError(f"fields: the collection {found['collection']} is there twice")
            self.fields[found["collection"]] = SlugField(found["collection"], found["slug"], found["source"])

    @hookimpl
    def register_routes(self, server: Server) -> Routes:
        """GET /:project/custom/slugs/COLLECTION/SLUG"""
        routes = Routes()
        about = Operation("Get an item by its slug", ANY)
        routes.add("GET", "/<project>/<collection>/<slug>", self.show_item, Caller.PUBLIC, about)
        return routes

    async def show_item(self, request: Request) -> Envelope:
        """Returns the item of a collection that has a slug, as far as the caller may read it. Takes the parameter `fields`."""
        field = self.fields.get(request.path["collection"])
        if field is None:
            raise errors.NotFound(f"The collection {request.path['collection']} has no slugs.")
        query = evolve(request.query(), filter=(Condition((field.name,), "eq", request.path["slug"]),), limit=1, meta=None)
        found = await request.ctx.items.read(field.collection, query)
        if not found:
            raise errors.ItemNotFound
        return Envelope(found[0])

    @hookimpl
    async def item_create(self, ctx: Context, collection: str, payload: dict[str, Any]) -> None:
        """Makes the slug of a new item, or checks the one that is sent."""
        field = self.fields.get(collection)
        if field is not None:
            await self._fill(ctx, field, payload, payload.get(field.source), None)

    @hookimpl
    async def item_update(self, ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> None:
        """Checks a slug that is sent. One that is emptied is made anew. If only the source changes, the slug stays, because links contain
        it."""
        field = self.fields.get(collection)
        if field is None or field.name not in payload:
            return
        query = Query(fields=(field.name, field.source), status=("*",))
        item = await ctx.as_administrator().items.read_one(collection, key, query)
        await self._fill(ctx, field, payload, payload.get(field.source, item[field.source]), item[field.name])

    async def _fill(self, ctx: Context, field: SlugField, payload: dict[str, Any], source: Any, own: str | None) -> None:
        """Sets the slug in a payload. *own* is the one that the item has. Raises errors.InvalidRequest."""
        slug = payload.get(field.name)
        if not slug:
            if isinstance(source, str) and source.strip():
                payload[field.name] = await self._made(ctx, field, source, own)
            return
        if not isinstance(slug, str) or not SLUG.fullmatch(slug) or len(slug) > self.max_length:
            raise errors.InvalidRequest(
                f'The field "{field.name}" must consist of at most {self.max_length} lower-case letters and digits, with single hyphens'
                " between them."
            )
        if await self._taken(ctx, field, [slug], own):
            raise errors.InvalidRequest(f'The field "{field.name}": another item has the slug "{slug}".')
        await self._reserve(ctx, field, slug)

    async def _made(self, ctx: Context, field: SlugField, source: str, own: str | None) -> str:
        """Returns a slug for a text that no other item has, with a number if need be. Raises errors.InvalidRequest if the text has no
        letter or digit."""
        base = slugify(source, max_length=self.max_length - DIGITS)
        if not base:
            raise errors.InvalidRequest(f'No slug can be made of the field "{field.source}": it has no letter or digit.')
        first = 1
        while True:
            candidates = [base if number == 1 else f"{base}-{number}" for number in range(first, first + CANDIDATES)]
            taken = await self._taken(ctx, field, candidates, own)
            free = next((each for each in candidates if each not in taken), None)
            if free is not None:
                await self._reserve(ctx, field, free)
                return free
            first += CANDIDATES

    async def _taken(self, ctx: Context, field: SlugField, slugs: list[str], own: str | None) -> set[str]:
        """Returns those of some slugs that other items have, or that this transaction has given to some. From here on, transactions that
        ask for slugs of the same field wait for the end of this one."""
        rows = await ctx.query(
            "SELECT coalesce(current_setting('directus_tx_slugs.reserved', true), '')"
            " FROM (SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))) AS locked",
            [f"directus_tx_slugs {field.collection}.{field.name}"],
        )
        reserved = rows[0][0].split()
        query = Query(
            fields=(field.name,),
            filter=(Condition((field.name,), "in", tuple(slugs)),),
            status=("*",),
            limit=len(slugs),
        )
        items = await ctx.as_administrator().items.read(field.collection, query)
        found = {item[field.name] for item in items} - {own}
        return found | {each for each in slugs if f"{field.collection}.{each}" in reserved}

    async def _reserve(self, ctx: Context, field: SlugField, slug: str) -> None:
        """Remembers a slug until the end of the transaction: the items of a request are written after all their slugs have been made. If
        the transaction is rolled back, PostgreSQL forgets it."""
        await ctx.query(
            "SELECT set_config("
            "'directus_tx_slugs.reserved', coalesce(current_setting('directus_tx_slugs.reserved', true), '') || %s, true)",
            [f" {field.collection}.{slug}"],
        )


plugin = Slugs()
