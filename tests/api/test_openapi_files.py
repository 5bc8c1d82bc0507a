"""What the OpenAPI document says about uploads is what the server takes: bodies and headers are accepted if, and only if, they are valid by
the document."""

import base64
from typing import Any

import pytest
import pytest_twisted
from jsonschema import Draft202012Validator

from tests.api.test_files import FORM, allow_imports, form, serving, upload
from tests.conftest import Client, Reply
from tests.receiver import receiving

TEXT = base64.b64encode(b"Hello").decode()
NAMES = {"filename_disk": "a.txt", "filename_download": "a.txt"}


async def operation(client: Client, method: str, path: str) -> Any:
    """Returns the document, and the operation of a route in it."""
    document = (await client.get("~/specs/oas")).json
    return document, document["paths"][path][method]


async def body_validator(client: Client, method: str, path: str, media_type: str = "application/json") -> Draft202012Validator:
    """Returns a validator of the bodies of an operation."""
    document, found = await operation(client, method, path)
    schema = found["requestBody"]["content"][media_type]["schema"]
    return Draft202012Validator({**schema, "components": document["components"]})


def check_answered(found: Any, answer: Reply) -> None:
    """Checks that the status of an answer is documented, or is another error."""
    assert str(answer.status) in found["responses"] or answer.status >= 400


BODIES: list[tuple[Any, bool]] = [
    ({"data": TEXT, **NAMES}, True),
    ({"data": f"data:text/plain;base64,{TEXT}", **NAMES}, True),
    ({"data": TEXT, **NAMES, "title": "A", "tags": ["a"], "folder": None, "description": None, "metadata": {"a": 1}}, True),
    ({"data": "https://www.youtube.com/watch?v=dQw4w9WgXcQ"}, True),
    ({"data": "HTTPS://vimeo.com/76979871", "title": "A video"}, True),
    ({"data": TEXT}, False),
    ({"data": TEXT, "filename_disk": "a.txt"}, False),
    ({"data": TEXT, "filename_download": "a.txt"}, False),
    ({"data": TEXT, "filename_disk": "", "filename_download": "a.txt"}, False),
    ({"data": TEXT, "filename_disk": None, "filename_download": "a.txt"}, False),
    ({"data": TEXT, "filename_disk": 5, "filename_download": "a.txt"}, False),
    ({"data": "", **NAMES}, False),
    ({"data": None, **NAMES}, False),
    ({"data": 5, **NAMES}, False),
    ({"data": [TEXT], **NAMES}, False),
    ({"data": TEXT, **NAMES, "title": "x" * 256}, False),
    ({"data": TEXT, **NAMES, "tags": "a"}, False),
    (NAMES, False),
    ({}, False),
    ([], False),
    ("text", False),
    (None, False),
]


@pytest_twisted.ensureDeferred
async def test_json_that_uploads_a_file(client: Client) -> None:
    validator = await body_validator(client, "post", "/files")
    _, found = await operation(client, "post", "/files")
    assert found["requestBody"]["required"]
    for body, good in BODIES:
        answer = await client.post("~/files", body)
        assert (validator.is_valid(body), answer.status == 200) == (good, good), (body, answer.body)
        check_answered(found, answer)


@pytest_twisted.ensureDeferred
async def test_a_url_needs_no_names(client: Client) -> None:
    validator = await body_validator(client, "post", "/files")
    allow_imports(client)
    async with receiving() as receiver:
        receiver.act = serving(b"%PDF-1.7", "application/pdf")
        for body in ({"data": f"{receiver.url}/a.pdf"}, {"data": f"{receiver.url}/a.pdf", **NAMES}):
            assert validator.is_valid(body)
            answer = await client.post("~/files", body)
            assert answer.status == 200, answer.body
        await client.backend.intake.client.close()


@pytest_twisted.ensureDeferred
async def test_json_that_changes_a_file(client: Client) -> None:
    file = (await upload(client, ("data", b"Hello", "a.txt"))).data
    validator = await body_validator(client, "patch", "/files/{ids}")
    _, found = await operation(client, "patch", "/files/{ids}")
    for body, good in (
        ({"title": "A"}, True),
        ({"data": TEXT}, True),
        ({"data": TEXT, "title": None}, True),
        ({"data": ""}, False),
        ({"data": 5}, False),
        ({"title": 5 * ["x"]}, False),
        ({}, False),
        ([], False),
    ):
        answer = await client.patch(f"~/files/{file['id']}", body)
        assert (validator.is_valid(body), answer.status == 200) == (good, good), (body, answer.body)
        check_answered(found, answer)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("method", "path"), [("post", "/files"), ("patch", "/files/{ids}")])
async def test_forms_with_files(client: Client, method: str, path: str) -> None:
    file = (await upload(client, ("data", b"Hello", "a.txt"))).data
    validator = await body_validator(client, method, path, "multipart/form-data")
    schema = validator.schema
    assert schema["properties"]["data"]["format"] == "binary"
    texts = {name: "1" if name == "folder" else "a.txt" for name, each in schema["properties"].items() if name != "data"}
    assert (await client.post("~/folders", {"name": "pictures"})).status == 200
    address = f"~{path.replace('{ids}', str(file['id']))}"
    for parts, good in (
        ([("data", b"Hello", "a.txt")], True),
        ([("data", b"Hello", "a.txt"), *texts.items()], True),
        ([("title", "A")], method == "patch"),
    ):
        values = {part[0]: "text" for part in parts}
        answer = await client.call(method.upper(), address, form(*parts), headers=FORM)
        assert (validator.is_valid(values), answer.status == 200) == (good, good), (parts, answer.body)


GOOD = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "5",
    "Upload-Metadata": f"filename {base64.b64encode(b'a.txt').decode()}",
}


def are_valid(found: Any, headers: dict[str, str]) -> bool:
    """Whether a request has the headers that an operation needs, with values that they may have."""
    known = [each for each in found["parameters"] if each["in"] == "header"]
    for each in known:
        if each["name"] not in headers:
            if each["required"]:
                return False
        elif not Draft202012Validator(each["schema"]).is_valid(headers[each["name"]]):
            return False
    return True


@pytest_twisted.ensureDeferred
async def test_uploads_by_tus(client: Client) -> None:
    _, begin = await operation(client, "post", "/files/tus")
    _, add = await operation(client, "patch", "/files/tus/{name}")
    _, ask = await operation(client, "head", "/files/tus/{name}")
    assert not begin["requestBody"]["required"]
    (media_type,) = add["requestBody"]["content"]
    assert add["requestBody"]["required"]
    deferred = {name: value for name, value in GOOD.items() if name != "Upload-Length"} | {"Upload-Defer-Length": "1"}
    for headers in (
        GOOD,
        deferred,
        *({name: value for name, value in GOOD.items() if name != left} for left in ("Tus-Resumable", "Upload-Metadata")),
        GOOD | {"Tus-Resumable": "0.2.2"},
        GOOD | {"Upload-Length": "-5"},
        GOOD | {"Upload-Length": "0"},
        deferred | {"Upload-Defer-Length": "2"},
    ):
        answer = await client.call("POST", "~/files/tus", headers=headers)
        assert (answer.status == 201) == are_valid(begin, headers), headers
        check_answered(begin, answer)
    answer = await client.call("POST", "~/files/tus", headers=GOOD)
    place = f"~/files/{answer.headers['location']}"
    assert are_valid(ask, {"Tus-Resumable": "1.0.0"})
    asked = await client.call("HEAD", place, headers={"Tus-Resumable": "1.0.0"})
    assert str(asked.status) in ask["responses"]
    assert asked.headers["upload-offset"] == "0"
    own = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
    for headers in (own | {"Tus-Resumable": "2"}, own | {"Upload-Offset": "-1"}, {"Tus-Resumable": "1.0.0"}, own):
        answer = await client.call("PATCH", place, b"Hello", headers={**headers, "Content-Type": media_type})
        assert (answer.status == 204) == are_valid(add, headers), headers
        check_answered(add, answer)


@pytest_twisted.ensureDeferred
async def test_redirects_have_their_status(client: Client) -> None:
    _, found = await operation(client, "get", "/docs")
    answer = await client.get("~/docs", token=None)
    assert str(answer.status) in found["responses"]
