"""A small blog as a snapshot, for tests that need a schema and no database."""

from typing import Any

from directus_tx.schema.model import Collection, Field, Relation, Snapshot

TEXT, INTEGER = "character varying(200)", "integer"
STATUSES = {
    "status_mapping": {
        "published": {"name": "Published"},
        "draft": {"name": "Draft", "required_fields": False},
        "deleted": {"name": "Deleted", "soft_delete": True},
    }
}


def collection(name: str, *fields: Field, **more: Any) -> Collection:
    """A collection with a counting key and these fields."""
    key = Field(
        name, "id", "integer", "INT", "11", primary_key=True, auto_increment=True, nullable=False, column_type=INTEGER, id=1
    )
    return Collection(name, {f.field: f for f in (key, *fields)}, managed=True, has_row=True, **more)


def field(of: str, name: str, type: str = "string", column_type: str | None = TEXT, **more: Any) -> Field:
    """A field of a collection."""
    return Field(of, name, type, "VARCHAR", "200", column_type=column_type, id=1, **more)


def blog(**more: Any) -> Snapshot:
    """Articles with a status, an owner and an author; authors; tags, and the junction to them; users."""
    collections = [
        collection(
            "articles",
            field("articles", "status", "status", options=STATUSES, default_value="draft"),
            field("articles", "title"),
            field("articles", "views", "integer", INTEGER),
            field("articles", "published_on", "datetime", "timestamp(0) without time zone"),
            field("articles", "owner", "owner", INTEGER),
            field("articles", "author", "m2o", INTEGER),
            field("articles", "tags", "o2m", None),
        ),
        collection("authors", field("authors", "name"), field("authors", "articles", "o2m", None)),
        collection("tags", field("tags", "name"), field("tags", "sort", "sort", INTEGER)),
        collection(
            "articles_tags", field("articles_tags", "article", "m2o", INTEGER), field("articles_tags", "tag", "m2o", INTEGER)
        ),
        collection(
            "directus_users",
            field("directus_users", "email"),
            field("directus_users", "token"),
            field("directus_users", "role", "m2o", INTEGER),
        ),
        collection(
            "directus_revisions",
            field("directus_revisions", "collection"),
            field("directus_revisions", "item"),
            field("directus_revisions", "data", "json", "text"),
        ),
    ]
    relations = (
        Relation(1, "articles", "author", "authors", "articles"),
        Relation(2, "articles_tags", "article", "articles", "tags", "tag"),
        Relation(3, "articles_tags", "tag", "tags", None, "article"),
    )
    return Snapshot(1, {c.collection: c for c in collections}, relations, **more)
