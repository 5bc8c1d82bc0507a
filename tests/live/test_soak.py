"""A short soak: two processes under a mixed load, and each kind of fault once. `python -m tests.soak` is the long one."""

import pathlib
import resource
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.soak.databases import BINARIES
from tests.soak.faults import FAULTS
from tests.soak.runner import Soak, prepare

SEED = 4
NAMES = [name for name in FAULTS if name != "no space for temporary files"]


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    """A directory that another user may pass through, which the database of a test that root runs belongs to."""
    found = pathlib.Path(tempfile.mkdtemp(prefix="directus-soak-"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """Lets this process and the servers open some thousand sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not BINARIES, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)")
@pytest.mark.usefixtures("many_sockets")
def test_no_fault_costs_a_write_or_an_answer_or_leaves_anything_behind(directory: pathlib.Path) -> None:
    servers = prepare(directory, processes=2, embedded=False)
    try:
        report = Soak(servers, SEED, interval=0.1, once=True, clients=8, only=NAMES).run(warm_up=3)
    finally:
        servers.stop()
    assert report.problems() == []
    assert len(report.happened) >= 15
    assert report.verdict is not None
    assert report.verdict.acknowledged == report.verdict.found > 100
