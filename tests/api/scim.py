"""What tests of SCIM share."""

from typing import Any
from urllib.parse import quote

from tests.conftest import TOKEN, Client, Reply

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
MEDIA_TYPE = "application/scim+json"


async def scim(
    client: Client, method: str, path: str, body: Any = ..., *, token: str | None = TOKEN, headers: dict[str, str] | None = None
) -> Reply:
    """Calls a SCIM endpoint as identity providers do."""
    sent = {"Accept": MEDIA_TYPE, **({} if body is ... else {"Content-Type": MEDIA_TYPE}), **(headers or {})}
    answer = await client.call(method, f"~/scim/v2{path}", body, token=token, headers=sent)
    if answer.body:
        assert answer.headers["content-type"] == MEDIA_TYPE
    if answer.status >= 400:
        assert answer.json["schemas"] == [ERROR]
        assert answer.json["status"] == str(answer.status)
        assert answer.json["detail"]
    return answer


async def make(client: Client, login: str, /, **more: Any) -> str:
    """Creates an active user with the address LOGIN@example.com. Returns the id."""
    body = {"schemas": [USER], "userName": f"{login}@example.com", "externalId": f"{login}-id", "active": True, **more}
    answer = await scim(client, "POST", "/Users", body)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


async def make_group(client: Client, name: str, *members: str) -> str:
    """Creates a group with these members, by their ids. Returns the id."""
    body = {"schemas": [GROUP], "displayName": name, "members": [{"value": id} for id in members]}
    answer = await scim(client, "POST", "/Groups", body)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


async def patched(client: Client, path: str, *operations: dict[str, Any], **options: Any) -> Reply:
    """Sends a PATCH with operations."""
    return await scim(client, "PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, **options)


def filtered(kind: str, filter: str) -> str:
    """The path of a list with a filter."""
    return f"/{kind}?filter={quote(filter)}"


async def found(client: Client, filter: str, kind: str = "Users", **options: Any) -> list[str]:
    """The userName, without the domain, or the displayName of what a filter finds."""
    answer = await scim(client, "GET", filtered(kind, filter), **options)
    assert answer.status == 200, answer.body
    names = [each.get("userName") or each["displayName"] for each in answer.json["Resources"]]
    assert answer.json["totalResults"] == len(names)
    return [name.partition("@")[0] for name in names]
