"""What the server is measured against: a bare Klein and txpostgres program whose SQL is written by hand for the same answers.

    python -m tests.bench.bare PORT DSN

It knows no permissions, no schema, no parameters; it is what somebody would write who needs just these answers.
"""

import datetime
import sys

import orjson
from klein import Klein
from psycopg2.extensions import DATE, DECIMAL, FLOAT, TIME, new_type, register_type
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.web.server import Site
from txpostgres import txpostgres

COLUMNS = ("id", "status", "title", "body", "views", "rating", "featured", "published_on", "author")
ARTICLE = ", ".join(COLUMNS)
LISTED = f"SELECT {ARTICLE} FROM articles WHERE status IS DISTINCT FROM 'deleted' ORDER BY id LIMIT 100"

register_type(new_type(DECIMAL.values, "FLOAT", FLOAT))
register_type(new_type((1114, *DATE.values, *TIME.values), "TEXT", lambda value, cursor: value))


class Bare:
    app = Klein()

    def __init__(self, pool):
        self.pool = pool

    def answer(self, request, data):
        request.setHeader(b"Content-Type", b"application/json")
        return orjson.dumps({"data": data})

    @app.route("/one/<int:key>")
    async def one(self, request, key):
        rows = await self.pool.runQuery(f"SELECT {ARTICLE} FROM articles WHERE id = %s AND status <> 'deleted'", (key,))
        return self.answer(request, dict(zip(COLUMNS, rows[0], strict=True)))

    @app.route("/flat")
    async def flat(self, request):
        rows = await self.pool.runQuery(LISTED)
        return self.answer(request, [dict(zip(COLUMNS, row, strict=True)) for row in rows])

    @app.route("/filtered")
    async def filtered(self, request):
        rows = await self.pool.runQuery(
            f"SELECT {ARTICLE} FROM articles WHERE author IN (SELECT id FROM authors WHERE lower(name) = lower(%s))"
            " AND status IS DISTINCT FROM 'deleted' ORDER BY id LIMIT 100",
            ("Author 7",),
        )
        return self.answer(request, [dict(zip(COLUMNS, row, strict=True)) for row in rows])

    @app.route("/deep-page")
    async def deep_page(self, request):
        rows = await self.pool.runQuery(
            f"SELECT {ARTICLE} FROM articles WHERE status IS DISTINCT FROM 'deleted'"
            " ORDER BY views DESC NULLS LAST, id LIMIT 20 OFFSET 9000"
        )
        return self.answer(request, [dict(zip(COLUMNS, row, strict=True)) for row in rows])

    @app.route("/search")
    async def search(self, request):
        rows = await self.pool.runQuery(
            "SELECT id FROM notes WHERE lower(text) LIKE %s OR lower(id::text) LIKE %s ORDER BY id LIMIT 100",
            ("%note 4711%",) * 2,
        )
        return self.answer(request, [{"id": row[0]} for row in rows])

    @app.route("/aggregate")
    async def aggregate(self, request):
        rows = await self.pool.runQuery(
            "SELECT author, count(*), sum(views) FROM articles WHERE status IS DISTINCT FROM 'deleted'"
            " GROUP BY author ORDER BY author LIMIT 200"
        )
        return self.answer(request, [{"author": a, "count": {"*": n}, "sum": {"views": float(v)}} for a, n, v in rows])

    @app.route("/write", methods=["POST"])
    @app.route("/write-nested", methods=["POST"])
    async def write(self, request):
        body = orjson.loads(request.content.read())
        work = lambda cursor: Deferred.fromCoroutine(write(cursor, body))  # noqa: E731
        return self.answer(request, await self.finished(work))

    def finished(self, work):
        """Runs a transaction to its end: a client that hangs up must not cancel it, or txpostgres' pool would lose the connection."""
        done = Deferred(lambda _: None)
        self.pool.runInteraction(work).addBoth(lambda result: done.called or done.callback(result))
        return done

    @app.route("/write", methods=["PATCH"])
    @app.route("/write/<int:key>", methods=["PATCH"])
    async def change(self, request, key=None):
        body = orjson.loads(request.content.read())
        work = lambda cursor: Deferred.fromCoroutine(change(cursor, body if key is None else [{"id": key, **body}]))  # noqa: E731
        items = await self.finished(work)
        return self.answer(request, items if key is None else items[0])

    @app.route("/write/<int:key>", methods=["DELETE"])
    async def delete(self, request, key):
        work = lambda cursor: Deferred.fromCoroutine(delete(cursor, key))  # noqa: E731
        await self.finished(work)
        request.setResponseCode(204)
        return b""

    @app.route("/nested")
    async def nested(self, request):
        rows = await self.pool.runQuery(LISTED)
        items = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        authors, links = await gatherResults(
            [
                self.pool.runQuery(
                    "SELECT id, name, email FROM authors WHERE id = ANY(%s)", ([item["author"] for item in items],)
                ),
                self.pool.runQuery(
                    "SELECT articles_tags.article, tags.id, tags.name FROM articles_tags"
                    " JOIN tags ON tags.id = articles_tags.tag WHERE articles_tags.article = ANY(%s) ORDER BY articles_tags.id",
                    ([item["id"] for item in items],),
                ),
            ]
        )
        by_key = {key: {"id": key, "name": name, "email": email} for key, name, email in authors}
        tags: dict[int, list] = {item["id"]: [] for item in items}
        for article, key, name in links:
            tags[article].append({"tag": {"id": key, "name": name}})
        for item in items:
            item["author"] = by_key.get(item["author"])
            item["tags"] = tags[item["id"]]
        return self.answer(request, items)


HISTORY = (
    "INSERT INTO directus_activity (action, action_by, action_on, ip, user_agent, collection, item) VALUES ",
    "INSERT INTO directus_revisions (activity, collection, item, data, delta, parent_collection) VALUES ",
)


async def insert(cursor, table, names, rows, parent=None):
    """Inserts rows with their activity and revisions, and gives their keys."""
    line = f"({', '.join(['%s'] * len(names))})"
    sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([line] * len(rows))} RETURNING id, {', '.join(names)}"
    await cursor.execute(sql, [row.get(name) for row in rows for name in names])
    written = cursor.fetchall()
    await revise(cursor, "create", table, names, written, rows, parent)
    return [row[0] for row in written]


async def activity_of(cursor, action, table, keys):
    """Writes the activity of an action on items, and gives its keys."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    activity = [(action, 1, now, "127.0.0.1", "wrk", table, str(key)) for key in keys]
    sql = HISTORY[0] + ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(activity)) + " RETURNING id"
    await cursor.execute(sql, [value for row in activity for value in row])
    return cursor.fetchall()


async def revise(cursor, action, table, names, written, rows, parent=None):
    """Writes the activity and the revisions of rows that have been written, and of what was sent for each."""
    ids = await activity_of(cursor, action, table, [row[0] for row in written])
    revisions = [
        (
            id,
            table,
            str(row[0]),
            orjson.dumps(dict(zip(("id", *names), row, strict=True))).decode(),
            orjson.dumps(sent).decode(),
            parent,
        )
        for (id,), row, sent in zip(ids, written, rows, strict=True)
    ]
    await cursor.execute(
        HISTORY[1] + ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(rows)), [value for row in revisions for value in row]
    )


async def change(cursor, items):
    """Changes the views of items, and gives the items."""
    lines = ", ".join(["(%s, %s)"] * len(items))
    await cursor.execute(
        f"UPDATE written SET views = v.views FROM (VALUES {lines}) AS v(id, views) WHERE written.id = v.id"
        " RETURNING written.id, title, body, written.views",
        [value for item in items for value in (item["id"], item["views"])],
    )
    by_key = {row[0]: row for row in cursor.fetchall()}
    written = [by_key[item["id"]] for item in items]
    await revise(cursor, "update", "written", ("title", "body", "views"), written, [{"views": each["views"]} for each in items])
    return [dict(zip(("id", "title", "body", "views"), row, strict=True)) for row in written]


async def delete(cursor, key):
    """Deletes an item."""
    await cursor.execute("DELETE FROM written WHERE id = %s", (key,))
    await activity_of(cursor, "delete", "written", [key])


async def write(cursor, body):
    """Writes what a POST holds, and reads it back."""
    rows = body if isinstance(body, list) else [body]
    keys = await insert(cursor, "written", ("title", "body", "views"), rows)
    parts = [part | {"whole": key} for row, key in zip(rows, keys, strict=True) for part in row.get("parts", ())]
    if parts:
        await insert(cursor, "parts", ("name", "whole"), parts, "written")
    await cursor.execute("SELECT id, title, body, views FROM written WHERE id = ANY(%s) ORDER BY id", (keys,))
    items = [dict(zip(("id", "title", "body", "views"), row, strict=True)) for row in cursor.fetchall()]
    return items if isinstance(body, list) else items[0]


async def main(port, dsn):
    pool = txpostgres.ConnectionPool(None, dsn, min=8)
    await pool.start()
    reactor.listenTCP(port, Site(Bare(pool).app.resource()), interface="127.0.0.1", backlog=512)


if __name__ == "__main__":
    ensureDeferred(main(int(sys.argv[1]), sys.argv[2])).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
