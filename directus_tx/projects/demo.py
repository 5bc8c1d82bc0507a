"""The demo project: a small blog with fixed content, created through the same services as every project."""

import secrets
from typing import Any

from attrs import frozen

from directus_tx import schema_service
from directus_tx.context import ADMINISTRATOR, Accountability, Context, current_time
from directus_tx.db.session import Session
from directus_tx.items import create_items
from directus_tx.items.service import Items
from directus_tx.projects.provisioning import checked
from directus_tx.projects.registry import Projects
from directus_tx.query import Query, WriteOptions

KEY = "demo"
EMAIL = "admin@example.com"


@frozen
class Demo:
    """The demo project. `password` is the administrator's password if the project has just been created, otherwise None."""

    key: str
    password: str | None


def _key() -> dict[str, Any]:
    return {
        "field": "id",
        "type": "integer",
        "datatype": "INT",
        "length": 11,
        "interface": "primary-key",
        "primary_key": True,
        "auto_increment": True,
        "hidden_detail": True,
    }


def _text(name: str, length: int = 200, **more: Any) -> dict[str, Any]:
    return {"field": name, "type": "string", "datatype": "VARCHAR", "length": length, "interface": "text-input", **more}


def _many_to_one(name: str) -> dict[str, Any]:
    return {"field": name, "type": "m2o", "datatype": "INT", "length": 11, "interface": "many-to-one"}


_STATUSES = {
    "published": {"name": "Published", "text_color": "white", "background_color": "accent", "browse_badge": True},
    "draft": {"name": "Draft", "text_color": "white", "background_color": "blue-grey-100", "required_fields": False},
    "deleted": {"name": "Deleted", "text_color": "white", "background_color": "red", "soft_delete": True},
}

COLLECTIONS: tuple[dict[str, Any], ...] = (
    {
        "collection": "authors",
        "icon": "person",
        "note": "Who writes",
        "fields": [
            _key(),
            _text("name", required=True),
            _text("email", unique=True, validation="$email"),
            {"field": "articles", "type": "o2m", "interface": "one-to-many"},
        ],
    },
    {"collection": "tags", "icon": "label", "fields": [_key(), _text("name", 60, unique=True)]},
    {
        "collection": "articles",
        "icon": "article",
        "note": "What is written",
        "fields": [
            _key(),
            {
                "field": "status",
                "type": "status",
                "datatype": "VARCHAR",
                "length": 20,
                "interface": "status",
                "default_value": "draft",
                "options": {"status_mapping": _STATUSES},
            },
            _text("title", required=True),
            {
                "field": "slug",
                "type": "slug",
                "datatype": "VARCHAR",
                "length": 200,
                "interface": "slug",
                "options": {"mirroredField": "title"},
            },
            {"field": "body", "type": "string", "datatype": "TEXT", "interface": "markdown"},
            {"field": "published_on", "type": "date", "datatype": "DATE", "interface": "date"},
            _many_to_one("author"),
            {"field": "tags", "type": "o2m", "interface": "many-to-many"},
        ],
    },
    {"collection": "articles_tags", "hidden": True, "fields": [_key(), _many_to_one("article"), _many_to_one("tag")]},
)

_NAMES = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
RELATIONS = [
    dict(zip(_NAMES, row, strict=True))
    for row in (
        ("articles", "author", "authors", "articles", None),
        ("articles_tags", "article", "articles", "tags", "tag"),
        ("articles_tags", "tag", "tags", None, "article"),
    )
]

AUTHORS = [
    {"name": "Ada Lovelace", "email": "ada@example.com"},
    {"name": "Grace Hopper", "email": "grace@example.com"},
    {"name": "Edsger Dijkstra", "email": "edsger@example.com"},
]

TAGS = [{"name": name} for name in ("engines", "compilers", "proofs", "letters")]


def _article(status: str, title: str, published_on: str | None, author: int, tags: list[int], body: str) -> dict[str, Any]:
    return {
        "status": status,
        "title": title,
        "published_on": published_on,
        "author": author,
        "tags": [{"tag": tag} for tag in tags],
        "body": body,
    }


ARTICLES = [
    _article(
        "published",
        "Notes on the Analytical Engine",
        "2026-01-12",
        1,
        [1, 4],
        "The engine has no pretensions to originate anything. It can do whatever we know how to order it to perform.",
    ),
    _article(
        "published",
        "A compiler is a translator",
        "2026-02-03",
        2,
        [2],
        "I had a running compiler and nobody would touch it. They told me that computers could only do arithmetic.",
    ),
    _article(
        "published",
        "The humble programmer",
        "2026-02-17",
        3,
        [3, 4],
        "The competent programmer is fully aware of the strictly limited size of his own skull.",
    ),
    _article("published", "Nanoseconds by the foot", "2026-03-01", 2, [1], "Here is one: 11.8 inches of wire."),
    _article("draft", "On the cruelty of really teaching", None, 3, [3], "To be finished."),
]


async def create_demo(projects: Projects, service: Items) -> Demo:
    """Creates the demo project unless it exists."""
    if projects.files.get(KEY) is not None:
        return Demo(KEY, None)
    password = secrets.token_urlsafe(9)
    project = await projects.create(
        checked(
            {
                "project": KEY,
                "project_name": "Demo",
                "user_email": EMAIL,
                "user_password": password,
            },
            operator=True,
        )
    )
    options = WriteOptions()

    async def context() -> Context:
        who = Accountability(1, ADMINISTRATOR, "127.0.0.1", "directus_tx demo")
        schema = await project.snapshot()
        return Context(
            project.key,
            schema,
            who,
            current_time(),
            Session(project.database),
            project.keys,
            "demo",
            plugins=project.config.plugins,
        )

    for collection in COLLECTIONS:
        await schema_service.create_collection(service, await context(), collection, options)
    await create_items(service, await context(), "directus_relations", RELATIONS, Query(), options)
    ctx = await context()
    for name, rows in (("authors", AUTHORS), ("tags", TAGS), ("articles", ARTICLES)):
        await create_items(service, ctx, name, rows, Query(fields=("id",)), options)
    return Demo(KEY, password)


def announcement(demo: Demo, address: str) -> list[str]:
    """Returns the lines that announce the demo project, with the administrator's password if it has just been created."""
    lines = [f"directus_tx answers at {address}", f"  project        {demo.key}"]
    if demo.password is not None:
        return [*lines, f"  administrator  {EMAIL}", f"  password       {demo.password}   (shown this once)"]
    return [*lines, "  the password was shown at the first start: `directus user password demo` sets a new one"]
