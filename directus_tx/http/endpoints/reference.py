"""/:project/docs: the API reference, a page that shows the OpenAPI document of the project."""

from functools import partial

from twisted.internet.threads import deferToThread

from directus_tx.errors import NotFound
from directus_tx.http import encode, pages
from directus_tx.http.answers import Answer, Redirect, Stream, Streamed, Write
from directus_tx.http.operations import TEXT, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()
DOCS = "/<project>/docs"
PAGE = Operation("The API reference, for browsers", TEXT, media_type="text/html")


@routes.get(DOCS, Caller.ANONYMOUS, Operation("Go to the API reference", status=302))
async def go(call: Call) -> Answer:
    return Redirect("./docs/")


@routes.get(DOCS + "/", Caller.ANONYMOUS, PAGE)
async def page(call: Call) -> Streamed:
    return await _file(call, "reference.html")


@routes.get(DOCS + "/<name>", Caller.ANONYMOUS, Operation("A file of the API reference", TEXT, media_type="text/plain"))
async def file(call: Call) -> Streamed:
    return await _file(call, call.path["name"])


async def _file(call: Call, name: str) -> Streamed:
    found = await deferToThread(pages.reference_file, name)
    if found is None:
        raise NotFound('There is no such file, or the API reference is not installed: pip install "directus-tx[reference]".')
    body = found.content
    headers = {"Cache-Control": "max-age=3600", "Content-Security-Policy": pages.REFERENCE_POLICY}
    if encode.takes_gzip(call.request.getHeader(b"accept-encoding") or b""):
        body = found.compressed
        headers["Content-Encoding"] = "gzip"
    return Stream(partial(_write, body), found.content_type, headers)


async def _write(body: bytes, write: Write) -> None:
    await write(body)
