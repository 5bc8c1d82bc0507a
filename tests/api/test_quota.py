"""The quota of a project: the size of all its files together."""

import base64
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import defer

from tests.api.test_files import rows, stored, upload
from tests.api.test_tus import TUS, begin, created, head, send
from tests.conftest import SUPER_ADMIN_TOKEN, Client, Reply


def limit(client: Client, quota: int) -> None:
    """Gives the project a quota."""
    project = client.backend.projects.get(client.project)
    project.config = evolve(project.config, storage={**project.config.storage, "quota": quota})
    files = client.backend.projects.files
    path = f"{files.directory}/{client.project}.toml"
    stamp, _ = files._read[path]
    files._read[path] = stamp, project.config


async def used(client: Client) -> dict[str, Any]:
    await client.get("~/files?limit=1")
    answer = await client.get(f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)
    found: dict[str, Any] = answer.data["storage"][client.project]
    return found


def refused(answer: Reply) -> bool:
    return (answer.status, answer.code) == (413, 601) and "storage.quota" in answer.json["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_files_of_every_kind_count_and_what_is_deleted_does_not(client: Client) -> None:
    limit(client, 1000)
    assert await used(client) == {"used": 0, "quota": 1000}
    assert (await upload(client, ("data", b"x" * 400, "a.txt"))).status == 200
    body = {"filename_disk": "b.txt", "filename_download": "b.txt"}
    data = base64.b64encode(b"y" * 300).decode()
    assert (await client.post("~/files", {**body, "data": data})).status == 200
    path = await created(client, 200)
    assert await used(client) == {"used": 900, "quota": 1000}
    for answer in (
        await upload(client, ("data", b"x" * 101, "c.txt")),
        await client.post("~/files", {**body, "data": base64.b64encode(b"x" * 101).decode()}),
        await begin(client, 101),
    ):
        assert refused(answer), answer.body
    assert len(await stored(client)) == 2
    assert (await send(client, path, 0, b"z" * 200)).status == 204
    assert (await used(client))["used"] == 900
    assert (await upload(client, ("data", b"x" * 100, "c.txt"))).status == 200
    assert refused(await upload(client, ("data", b"x", "d.txt")))
    # A video elsewhere has no content.
    video = await client.post("~/files", {"data": "https://www.youtube.com/watch?v=abcdefghijk"})
    assert video.status == 200, video.body
    await client.delete("~/files/1")
    assert (await used(client))["used"] == 600
    assert (await upload(client, ("data", b"x" * 400, "d.txt"))).status == 200
    assert (await client.get("~/files?fields=id&meta=total_count")).json["meta"]["total_count"] == 5


@pytest_twisted.ensureDeferred
async def test_a_content_is_replaced_by_a_smaller_one_also_beyond_the_quota(client: Client) -> None:
    assert (await upload(client, ("data", b"x" * 400, "a.txt"))).status == 200
    assert (await upload(client, ("data", b"x" * 400, "b.txt"))).status == 200
    limit(client, 500)
    answer = await upload(client, ("data", b"y" * 401, "a.txt"), method="PATCH", path="~/files/1")
    assert refused(answer), answer.body
    assert (await client.get("~/files/1")).data["filesize"] == 400
    for size, status in ((399, 200), (50, 200), (100, 200), (101, 413)):
        answer = await upload(client, ("data", b"y" * size, "a.txt"), method="PATCH", path="~/files/1")
        assert answer.status == status, (size, answer.body)
    assert (await used(client))["used"] == 500


@pytest_twisted.ensureDeferred
async def test_unfinished_uploads_count_until_they_are_deleted_or_finished(client: Client) -> None:
    limit(client, 1000)
    path = await created(client, 900)
    assert refused(await upload(client, ("data", b"x" * 101, "a.txt")))
    assert (await client.call("DELETE", path, headers=TUS)).status == 204
    assert (await used(client))["used"] == 0
    # Without a size, what has arrived counts.
    path = await created(client, None)
    assert (await send(client, path, 0, b"x" * 600)).status == 204
    assert (await used(client))["used"] == 600
    answer = await send(client, path, 600, b"x" * 401)
    assert refused(answer), answer.body
    assert (await head(client, path)).headers["upload-offset"] == "600"
    answer = await send(client, path, 600, b"x", Upload_Length="1001")
    assert refused(answer), answer.body
    answer = await send(client, path, 600, b"x" * 400, Upload_Length="1000")
    assert answer.status == 204, answer.body
    assert (await used(client))["used"] == 1000
    assert len(await stored(client)) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sizes", [[100] * 20, [300, 10, 500, 400, 200, 999, 1, 600, 450, 90] * 2])
async def test_many_uploads_at_once_do_not_exceed_the_quota(client: Client, sizes: list[int]) -> None:
    limit(client, 1000)

    async def one(number: int, size: int) -> Reply:
        if number % 3:
            return await upload(client, ("data", b"x" * size, "a.txt"))
        return await begin(client, size)

    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(one(number, size)) for number, size in enumerate(sizes)])
    assert all(answer.status in (200, 201) or refused(answer) for answer in answers)
    admitted = sum(size for answer, size in zip(answers, sizes, strict=True) if answer.status in (200, 201))
    assert (await used(client))["used"] == admitted <= 1000
    # There is no room for any that was refused.
    assert all(admitted + size > 1000 for answer, size in zip(answers, sizes, strict=True) if answer.status == 413)
    assert len(await stored(client)) == len((await client.get("~/files?fields=id")).data)


@pytest_twisted.ensureDeferred
async def test_a_large_file_is_refused_before_it_is_stored(client: Client) -> None:
    limit(client, 100_000)
    assert refused(await upload(client, ("data", b"x" * 3_000_000, "large.txt")))
    assert await stored(client) == set()
    assert client.backend.intake.running == 0


@pytest_twisted.ensureDeferred
async def test_the_quota_is_that_of_the_project_file_or_of_the_server(client: Client) -> None:
    project = client.backend.projects.get(client.project)
    assert project.quota == 0
    assert await used(client) == {"used": 0, "quota": None}
    storages = client.backend.projects.storages
    storages.settings = evolve(storages.settings, quota=50)
    assert project.quota == 50
    assert refused(await upload(client, ("data", b"x" * 51, "a.txt")))
    limit(client, 60)
    assert (await upload(client, ("data", b"x" * 51, "a.txt"))).status == 200
    # 0 is no limit, also if the server has one.
    limit(client, 0)
    assert (await upload(client, ("data", b"x" * 51, "a.txt"))).status == 200
    for wrong in (-1, "many", 1.5, True):
        with pytest.raises(ValueError, match=r"storage\.quota"):
            storages.open("p", {"quota": wrong})
    assert await rows(client, "SELECT count(*) FROM directus_files") == [(2,)]
