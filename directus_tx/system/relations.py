"""Relations: which collections they may relate."""

from collections.abc import Sequence

from directus_tx.access import Grant
from directus_tx.context import Context
from directus_tx.errors import InvalidRequest, SystemCollection
from directus_tx.items.changes import Change
from directus_tx.items.rules import CollectionRules
from directus_tx.schema.model import UNRELATABLE
from directus_tx.suggestions import suggestion


class RelationRules(CollectionRules):
    """The rules of directus_relations."""

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises SystemCollection if a relation would use a collection of `UNRELATABLE`, InvalidRequest if it would use one that does not
        exist. Setting the names to null is allowed. The fields may be created later."""
        async for change in ctx.in_slices(changes):
            if all(change.row.get(name) is None for name in ("collection_many", "field_many", "collection_one", "field_one")):
                continue
            after = {**(change.stored or {}), **change.row}
            for name in (after.get("collection_many"), after.get("collection_one")):
                if name in UNRELATABLE:
                    raise SystemCollection(f'A relation may not use the collection "{name}".')
            for attribute in ("collection_many", "collection_one"):
                name = change.row.get(attribute)
                if name is not None and name not in ctx.schema.collections:
                    meant = suggestion(name, ctx.schema.collections)
                    refusal = InvalidRequest(f'"{attribute}": there is no collection "{name}"{meant}')
                    refusal.depends_on_schema = True
                    raise refusal
