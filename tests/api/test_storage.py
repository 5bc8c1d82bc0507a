"""Storages of files: what the interface says, on real disks and over real HTTP."""

import errno
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import defer, reactor

from directus_tx.checks import project_problems
from directus_tx.errors import ServiceUnavailable, StorageFull
from directus_tx.files.storage import disk
from directus_tx.files.storage import local as local_storage
from directus_tx.files.storage.disk import STALE
from directus_tx.files.storage.interfaces import FileNotStored, InvalidName, uploading
from directus_tx.files.storage.local import LocalStorage
from directus_tx.files.storage.testing import CHECKS, PIECE, check_names, content, got, names, put
from directus_tx.projects.files import ProjectConfig, ProjectDatabase, text_of
from directus_tx.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    found = Threads(reactor, "storage", "busy", threads=4, queue=64)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "var" / "storage" / "p"


@pytest.fixture
def local(root: pathlib.Path, threads: Threads) -> LocalStorage:
    return LocalStorage(root, threads)


def left(root: pathlib.Path) -> list[str]:
    """The files below a directory."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest_twisted.ensureDeferred
async def test_local_storage(check: Any, local: LocalStorage, root: pathlib.Path) -> None:
    await check(local)
    assert [name for name in left(root) if name.startswith(".uploads/")] == []
    assert open_files(root) == []


def open_files(root: pathlib.Path) -> list[str]:
    """The files below a directory that this process has open."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{each}")
        except OSError:
            continue
        if target.startswith(f"{root}/"):
            found.append(target)
    return found


@pytest_twisted.ensureDeferred
async def test_files_and_directories_belong_to_their_owner_alone(local: LocalStorage, root: pathlib.Path) -> None:
    await put(local, "originals/deep/a.txt", b"secret")
    async with uploading(local, "b") as upload:
        await upload.write(content(4 * PIECE))
        modes = {path: path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert set(modes.values()) == {0o700, 0o600}


@pytest_twisted.ensureDeferred
async def test_files_are_spread_over_directories(local: LocalStorage, root: pathlib.Path) -> None:
    for number in range(200):
        await put(local, f"originals/{number}.txt", b"")
    assert len(list((root / "originals").iterdir())) > 80
    assert len(await names(local, "originals/")) == 200


@pytest_twisted.ensureDeferred
async def test_files_of_directus_8_are_found_where_they_are(local: LocalStorage, root: pathlib.Path) -> None:
    (root / "originals").mkdir(parents=True)
    for name in ("old.jpg", "renamed.jpg", "replaced.jpg", "deleted.jpg"):
        (root / "originals" / name).write_bytes(name.encode())
    assert await got(local, "originals/old.jpg") == b"old.jpg"
    described = await local.describe("originals/old.jpg")
    assert described is not None
    assert described.size == 7
    await local.rename("originals/renamed.jpg", "originals/new.jpg")
    await put(local, "originals/replaced.jpg", b"new")
    await local.delete("originals/deleted.jpg")
    assert await names(local) == ["originals/new.jpg", "originals/old.jpg", "originals/replaced.jpg"]
    assert await got(local, "originals/replaced.jpg") == b"new"
    assert await got(local, "originals/new.jpg") == b"renamed.jpg"
    assert sorted(path.name for path in (root / "originals").iterdir() if path.is_file()) == ["old.jpg"]


@pytest_twisted.ensureDeferred
async def test_what_is_no_regular_file_is_no_file(local: LocalStorage, root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    await put(local, "a.txt", b"a")
    (shard,) = root.glob("=*")
    (root / "link.txt").symlink_to(outside)
    (shard / "link.txt").symlink_to(outside)
    (root / "linked").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    for name in ("link.txt", "pipe", "directory"):
        assert await local.describe(name) is None
        with pytest.raises(FileNotStored):
            await got(local, name)
        with pytest.raises(FileNotStored):
            await local.rename(name, "b.txt")
        await local.delete(name)
    assert await names(local) == ["a.txt"]
    assert outside.read_text() == "secret"


@pytest_twisted.ensureDeferred
async def test_uploads_of_killed_processes_are_removed_when_they_are_old(local: LocalStorage, root: pathlib.Path) -> None:
    assert disk.remove_stale(str(root)) == 0
    async with uploading(local, "a") as upload:
        await upload.write(content(4 * PIECE))
        rest = root / ".uploads" / "rest.part"
        rest.write_bytes(b"rest")
        os.utime(rest, (time.time() - STALE - 60,) * 2)
        assert disk.remove_stale(str(root)) == 1
        await upload.finish()
    assert not rest.exists()
    assert await got(local, "a") == content(4 * PIECE)


class BrokenDisk:
    """The module os, of which one function fails with an error number."""

    def __init__(self, function: str, number: int) -> None:
        self.function, self.number = function, number

    def __getattr__(self, name: str) -> Any:
        return self.fail if name == self.function else getattr(os, name)

    def fail(self, *_: Any, **__: Any) -> Any:
        raise OSError(self.number, "broken", "/a/path")


async def write_all(upload: Any) -> None:
    for _ in range(10):
        await upload.write(content(PIECE))
    await upload.finish()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("function", ["write", "fsync", "mkdir", "replace", "open"])
@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_507_and_leaves_nothing(
    function: str, number: int, local: LocalStorage, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(local, "kept", b"kept")
    before = left(root)

    upload = local.begin("new/name")
    with monkeypatch.context() as patched:
        for module in (disk, local_storage):
            patched.setattr(module, "os", BrokenDisk(function, number))
        with pytest.raises(StorageFull) as raised:
            await write_all(upload)
        await upload.abort()
    assert raised.value.status == 507
    assert "/a/path" not in str(raised.value)
    assert left(root) == before
    assert open_files(root) == []
    assert await put(local, "new/name", b"again")


@pytest_twisted.ensureDeferred
async def test_an_upload_that_has_failed_cannot_be_finished(local: LocalStorage, root: pathlib.Path, monkeypatch: Any) -> None:
    upload = local.begin("a")
    await upload.write(content(2 * PIECE))
    with monkeypatch.context() as patched:
        patched.setattr(disk, "os", BrokenDisk("write", errno.ENOSPC))
        with pytest.raises(StorageFull):
            await upload.write(content(2 * PIECE))
    with pytest.raises(ServiceUnavailable):
        await upload.finish()
    await upload.abort()
    assert left(root) == []


@pytest_twisted.ensureDeferred
async def test_the_root_may_be_relative(threads: Threads, tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    await put(LocalStorage(pathlib.Path("files"), threads), "a", b"a")
    assert len(left(tmp_path / "files")) == 1


@pytest_twisted.ensureDeferred
async def test_a_disk_that_fails_is_503_without_a_path(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(local, "a", b"a")

    monkeypatch.setattr(local_storage, "os", BrokenDisk("pread", errno.EIO))
    with pytest.raises(ServiceUnavailable) as raised:
        await got(local, "a")
    assert "/a/path" not in str(raised.value)


@pytest_twisted.ensureDeferred
async def test_too_much_work_is_503_but_what_has_begun_goes_on(root: pathlib.Path) -> None:
    threads = Threads(reactor, "storage", "busy", threads=1, queue=2)
    threads.start()
    try:
        local = LocalStorage(root, threads)
        upload = local.begin("a")
        await upload.write(content(2 * PIECE))
        asked = [defer.Deferred.fromCoroutine(local.describe("a")) for _ in range(2)]
        with pytest.raises(ServiceUnavailable):
            await local.describe("a")
        await upload.write(content(2 * PIECE))
        await upload.finish()
        assert await defer.gatherResults(asked) == [None, None]
    finally:
        threads.stop()


@pytest_twisted.ensureDeferred
async def test_an_upload_is_aborted_although_the_threads_have_stopped(root: pathlib.Path) -> None:
    threads = Threads(reactor, "storage", "busy")
    threads.start()
    local = LocalStorage(root, threads)
    upload = local.begin("a")
    await upload.write(content(2 * PIECE))
    threads.stop()
    await upload.abort()
    assert left(root) == []


@pytest_twisted.ensureDeferred
async def test_the_checks_find_a_storage_that_mixes_up_names(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = local._paths
    monkeypatch.setattr(local, "_paths", lambda name: paths(name.lower()))
    with pytest.raises(AssertionError):
        await check_names(local)


def test_names_that_are_no_names_are_422() -> None:
    assert (InvalidName.status, InvalidName.code) == (422, 4)


# storages of projects


@pytest_twisted.ensureDeferred
async def test_a_project_has_a_directory_of_its_own_which_is_deleted_with_its_database(client: Any) -> None:
    projects = client.backend.projects
    project = projects.get(client.project)
    await put(project.storage, "originals/a.txt", b"a")
    assert project.storage is project.storage
    directory = (projects.storages.data_dir / "storage") / client.project
    assert len(left(directory)) == 1
    rest = directory.with_name(".removed-by-a-process-that-was-killed")
    (rest / "originals").mkdir(parents=True)
    await projects.delete(client.project)
    assert left(projects.storages.data_dir / "storage") == []
    assert list((projects.storages.data_dir / "storage").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_files_stay_if_the_database_stays_or_the_directory_is_not_the_projects_own(
    client: Any, tmp_path: pathlib.Path
) -> None:
    projects = client.backend.projects
    first = projects.get(client.project)
    await first.snapshot()
    projects.files.change(first.config, lambda config: evolve(config, storage={"root": "shared"}))
    shared = projects.get(client.project)
    assert shared is not first
    await put(shared.storage, "a.txt", b"a")
    projects.files.change(shared.config, lambda config: evolve(config, storage={}, database=evolve(config.database, owned=False)))
    own = projects.get(client.project)
    await put(own.storage, "b.txt", b"b")
    projects.files.change(own.config, lambda config: evolve(config, storage={"adapter": "local", "root": str(tmp_path / "far")}))
    far = projects.get(client.project)
    await put(far.storage, "c.txt", b"c")
    name = far.config.database.name
    await projects.delete(client.project)
    assert sorted(path.rpartition("/")[2] for path in left(projects.storages.data_dir / "storage")) == ["a.txt", "b.txt"]
    assert [path.rpartition("/")[2] for path in left(tmp_path / "far")] == ["c.txt"]
    await projects.databases.drop(name)


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({"adapter": "locale"}, "storage.adapter must be local or s3"),
        ({"adapter": 1}, "storage.adapter must be a text"),
        ({"root": ["a"]}, "storage.root must be a text"),
        ({"root": "../projects"}, "storage.root must be an absolute path, or the name of a directory in the directory storage"),
        ({"root": "."}, "storage.root must be an absolute path, or the name of a directory in the directory storage"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_mistakes_in_the_settings_are_named_and_other_requests_are_answered(
    table: dict[str, Any], mistake: str, client: Any, settings: Any
) -> None:
    answer = await client.post(
        "/server/projects",
        {
            "project": "other",
            "super_admin_token": "super-admin",
            "user_email": "a@example.com",
            "user_password": "password",
            "storage": table,
        },
        token=None,
    )
    assert (answer.status, answer.code) == (422, 4)
    assert answer.json["error"]["message"] == f'"storage" cannot be used: {mistake}.'
    projects = client.backend.projects
    projects.files.change(projects.get(client.project).config, lambda config: evolve(config, storage=table))
    project = projects.get(client.project)
    with pytest.raises(ServiceUnavailable) as raised:
        _ = project.storage
    assert mistake not in str(raised.value)
    assert project_problems(settings) == [f"{projects.files.directory / client.project}.toml: {mistake}"]
    assert (await client.get("~/items/directus_roles")).status == 401
    assert (await client.get("~/roles")).status == 200


@pytest_twisted.ensureDeferred
async def test_clients_cannot_choose_directories_beside_those_of_storages(server: Any, tmp_path: pathlib.Path) -> None:
    attributes = {
        "project": "other",
        "super_admin_token": "super-admin",
        "user_email": "a@example.com",
        "user_password": "password",
    }
    answer = await server.post("/server/projects", attributes | {"storage": {"root": str(tmp_path)}}, token=None)
    assert (answer.status, answer.code) == (422, 4)
    answer = await server.post("/server/projects", attributes | {"storage": {"root": "media"}}, token=None)
    assert answer.status == 200
    await put(server.backend.projects.get("other").storage, "a.txt", b"a")
    assert len(left(tmp_path / "var" / "storage" / "media")) == 1


def test_a_storage_that_cannot_be_written_is_named(tmp_path: pathlib.Path, settings: Any) -> None:
    (tmp_path / "var" / "projects").mkdir(parents=True)
    (tmp_path / "taken").write_text("no directory")
    config = ProjectConfig(
        "p", False, ProjectDatabase("p"), "secret", "public", storage={"root": str(tmp_path / "taken" / "files")}
    )
    file = tmp_path / "var" / "projects" / "p.toml"
    file.write_text(text_of(config))
    assert project_problems(settings) == [f"{file}: storage.root: {tmp_path / 'taken'} is not a directory"]
