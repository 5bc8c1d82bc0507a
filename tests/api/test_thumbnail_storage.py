"""Thumbnails in a bucket, and thumbnails that a killed server leaves."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from directus_tx.db.session import Session
from directus_tx.files import checking
from directus_tx.files.storage.interfaces import uploading
from directus_tx.files.thumbnails import prefix_of
from directus_tx.schema.thumbnail_sizes import Size
from tests.api.test_assets import SMALL, another, asset, made, put_picture, set_setting, shape
from tests.api.test_files import deliver_removals, picture, rows, stored, upload
from tests.bucket import BUCKET, Bucket, Proxy, bucket, proxy, refuse
from tests.conftest import Client

LATER = timedelta(hours=1)


@pytest.fixture(scope="module")
def files() -> Iterator[Bucket]:
    with bucket() as found:
        yield found


@pytest.fixture
def between(files: Bucket) -> Iterator[Proxy]:
    with proxy(files.endpoint) as found:
        yield found


def use_bucket(client: Client, files: Bucket, endpoint: str = "") -> Any:
    """Makes a project keep its files in a bucket."""
    projects = client.backend.projects
    config = projects.get(client.project).config
    projects.files.change(config, lambda found: evolve(found, storage=files.settings(endpoint)))
    project = projects.get(client.project)
    assert project.storage.adapter == "s3"
    return project


async def check(client: Client, before: datetime, *, repair: bool = False) -> checking.Report:
    project = client.backend.projects.get(client.project)
    return await checking.check(Session(project.database), project.storage, before, repair=repair)


def thumbnails_in(files: Bucket, project: str) -> set[str]:
    return {key for key in files.objects() if key.startswith(f"{project}/thumbnails/")}


@pytest_twisted.ensureDeferred
async def test_thumbnails_are_kept_in_the_bucket(client: Client, files: Bucket) -> None:
    project = use_bucket(client, files)
    file = await put_picture(client, size=(300, 200))
    first = await asset(client, file)
    assert shape(first) == ("PNG", (64, 64))
    (key,) = thumbnails_in(files, client.project)
    assert files.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == first.body
    again = await asset(client, file)
    assert (again.body, again.headers["etag"], client.backend.thumbnails.made) == (first.body, first.headers["etag"], 1)
    part = await asset(client, file, headers={"Range": "bytes=5-14"})
    assert (part.status, part.body) == (206, first.body[5:15])
    unchanged = await asset(client, file, headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")
    # Another server finds it in the bucket.
    other = another(client)
    ((source, version),) = await rows(client, "SELECT name, sha256 FROM directus_file_contents")
    plan = other.plan(source, version, "image/png", Size(64, 64, "crop", 80))
    assert (await other.provide(project.key, project.storage, plan)).size == len(first.body)
    assert other.made == 0
    await other.stop()
    assert (await client.delete(f"~/files/{file['id']}")).status == 204
    await deliver_removals(client)
    assert [key for key in files.objects() if key.startswith(f"{client.project}/")] == []


@pytest_twisted.ensureDeferred
async def test_crops_in_a_bucket_follow_the_focal_point(client: Client, files: Bucket) -> None:
    use_bucket(client, files)
    file = await put_picture(client, size=(90, 30))
    for query in (SMALL, "key=directus-small-contain"):
        await asset(client, file, query)
    before = thumbnails_in(files, client.project)
    assert (await client.patch("~/files/1", {"metadata": {"focal_x": 0.1}})).status == 200
    await asset(client, file)
    await deliver_removals(client)
    after = thumbnails_in(files, client.project)
    assert (len(before), len(after), len(before & after)) == (2, 2, 1)


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_fails_is_503_and_nothing_half_is_left(client: Client, files: Bucket, between: Proxy) -> None:
    use_bucket(client, files, between.endpoint)
    file = await put_picture(client)

    def refuse_thumbnails(handler: Any, asked: Any) -> bool:
        if asked.method == "PUT":
            return refuse(403, "AccessDenied")(handler, asked)
        between.faults.append(refuse_thumbnails)
        return False

    between.faults.append(refuse_thumbnails)
    answer = await asset(client, file)
    assert (answer.status, answer.code) == (503, 16)
    assert between.faults == []
    assert thumbnails_in(files, client.project) == set()
    assert shape(await asset(client, file)) == ("PNG", (64, 64))
    assert files.unfinished() == []


@pytest_twisted.ensureDeferred
async def test_a_check_finds_thumbnails_that_a_killed_server_has_left(client: Client) -> None:
    """It was killed after it had stored a thumbnail, and before it had looked whether the content was still there."""
    kept, lost = [await put_picture(client) for _ in range(2)]
    await set_setting(client, "asset_whitelist", [])
    for query in (SMALL, "w=9&h=9&f=crop&q=9", "w=9&h=9&f=contain&q=9&format=webp"):
        for file in (kept, lost):
            assert (await asset(client, file, query)).status == 200
    project = client.backend.projects.get(client.project)
    ((source,),) = await rows(client, f"SELECT name FROM directus_file_contents WHERE file = {lost['id']}")
    left = {name for name in await made(client) if name.startswith(prefix_of(source))}
    await rows(client, f"DELETE FROM directus_files WHERE id = {lost['id']}")
    await project.storage.delete(source)
    now = datetime.now(UTC)
    # Others may just be making these.
    assert (await check(client, now - LATER, repair=True)).faultless
    report = await check(client, now + LATER)
    assert (set(report.thumbnails), report.unused, report.deleted, report.faultless) == (left, [], 0, False)
    report = await check(client, now + LATER, repair=True)
    assert (set(report.thumbnails), report.deleted, report.faultless) == (left, 3, True)
    assert (await check(client, now + LATER)).faultless
    assert len(await made(client)) == 3
    assert (await asset(client, kept)).status == 200


@pytest_twisted.ensureDeferred
async def test_a_check_leaves_thumbnails_of_renamed_and_older_files(client: Client) -> None:
    renamed = await put_picture(client)
    await rows(
        client,
        "INSERT INTO directus_files (filename_disk, filename_download, uploaded_on, type, filesize, private_hash)"
        " VALUES ('old.png', 'old.png', now(), 'image/png', 14, 'abc')",
    )
    project = client.backend.projects.get(client.project)
    async with uploading(project.storage, "originals/old.png") as held:
        await held.write(picture("PNG"))
        await held.finish()
    for file in (renamed, {"private_hash": "abc"}):
        assert (await asset(client, file)).status == 200
    for id in (renamed["id"], renamed["id"] + 1):
        assert (await client.patch(f"~/files/{id}", {"filename_disk": f"other-{id}.png"})).status == 200
    # A name that is not one of a thumbnail may be there for another reason.
    async with uploading(project.storage, "thumbnails/README") as held:
        await held.write(b"Please keep")
        await held.finish()
    assert (await check(client, datetime.now(UTC) + LATER, repair=True)).faultless
    assert len(await made(client)) == 3


@pytest_twisted.ensureDeferred
async def test_new_content_during_a_check_keeps_its_thumbnails(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files were compared before."""
    file = await put_picture(client)
    project = client.backend.projects.get(client.project)
    find = checking._exclude_changed

    async def change(*arguments: Any) -> None:
        await upload(client, ("data", picture("PNG", (40, 40)), "b.png"), method="PATCH", path=f"~/files/{file['id']}")
        assert (await asset(client, file)).status == 200
        await find(*arguments)

    monkeypatch.setattr(checking, "_exclude_changed", change)
    report = await checking.check(Session(project.database), project.storage, datetime.now(UTC) + LATER)
    assert report.thumbnails == []
    assert len(await made(client)) == 1
    assert await stored(client)
