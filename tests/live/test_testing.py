"""The fixtures for the tests of plugins, in a run of pytest of its own, as an author of a plugin uses them."""

import pathlib
import re
import subprocess
import sys

import pytest

from directus_tx.testing import Answer, wait_for

TESTS = """
import pytest

from directus_tx.testing import field, wait_for


@pytest.fixture(scope="module")
def directus_settings():
    return {"limits": {"max_rows": 2}}


def test_the_administrator_and_others_use_a_project(directus_project):
    project = directus_project
    project.collection("articles", field("title"), field("rating", "integer", "INT"))
    for title in ("one", "tw\u00f6", "three"):
        assert project.post("/items/articles", {"title": title, "rating": 1}).data["title"] == title
    reader = project.user({"articles": {"read": "full"}})
    assert [each["title"] for each in reader.get("/items/articles", **{"filter[title]": "tw\u00f6"}).data] == ["tw\\u00f6"]
    assert reader.post("/items/articles", {"title": "four"}).status == 403
    assert project.public.get("/items/articles").code == 3
    project.permit(2, "articles", read="full")
    assert project.public.get("/items/articles").status == 422, "limits.max_rows"
    assert len(project.public.get("/items/articles", limit=2).data) == 2
    assert project.patch("/items/articles/1", {"title": "ONE"}).data["title"] == "ONE"
    assert project.delete("/items/articles/1").status == 204
    answer = project.get("/items/nothing")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert "nothing" in answer.message


def test_each_test_has_a_project_of_its_own(directus_project):
    assert directus_project.get("/items/articles").status == 404


def test_several_projects(directus_server, directus_project):
    other = directus_server.create_project(project="other")
    other.collection("notes", field("text", "string", "TEXT"))
    assert other.get("/items/notes").data == []
    assert directus_project.get("/items/notes").status == 404
    directus_server.delete_project(other)


def test_the_data_stay_when_the_server_starts_again(directus_server, directus_project):
    directus_project.collection("notes", field("text"))
    directus_server.restart()
    assert directus_project.get("/items/notes").data == []
    assert directus_server.log.count("the server is ready") == 2
    assert directus_server.call("GET", "/server/ping").body == b"pong"


def test_that_fails(directus_project):
    directus_project.get("/items/missing").data
"""


def run(directory: pathlib.Path, **files: str) -> str:
    """Runs pytest on some files in a process of its own, and returns what it prints."""
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "directus_tx.testing",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        str(directory),
    ]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False).stdout


def test_a_few_lines_make_a_live_project(tmp_path: pathlib.Path) -> None:
    """A test that fails shows the message of the server, and its log."""
    printed = run(tmp_path, test_plugin=TESTS)
    assert re.search(r"^=+ 1 failed, 4 passed", printed, re.MULTILINE), printed
    failure = printed.partition("test_that_fails ___")[2]
    assert "AssertionError: 404: " in failure
    log = failure.partition("- log of the server -")[2]
    assert re.search(r"GET /test-\w+/items/missing 404", log)


def test_a_server_that_does_not_start_shows_its_log(tmp_path: pathlib.Path) -> None:
    settings = (
        "import pytest\n\n@pytest.fixture(scope='module')\ndef directus_settings():\n    return {'limits': {'max_rowz': 2}}\n"
    )
    printed = run(tmp_path, test_plugin=settings + "\n\ndef test_nothing(directus_project):\n    pass\n")
    assert re.search(r"^=+ 1 error", printed, re.MULTILINE), printed
    assert "the server does not start" in printed
    assert "there is no setting limits.max_rowz" in printed


def test_tests_that_use_no_fixture_start_nothing(tmp_path: pathlib.Path) -> None:
    """The module is loaded for all tests of an environment, so it imports neither the reactor nor the server."""
    test = "import sys\n\n\ndef test_nothing():\n    assert 'twisted.internet.reactor' not in sys.modules\n"
    test += "    assert 'directus_tx.service' not in sys.modules\n"
    (tmp_path / "test_nothing.py").write_text(test)
    options = ["-p", "no:twisted", "-p", "directus_tx.testing", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_a_condition_that_stays_false_fails() -> None:
    with pytest.raises(AssertionError, match="the condition has not come true"):
        wait_for(lambda: False, 0.1)
    wait_for(lambda: True, 0.1)


def test_answers_fail_with_what_the_server_says() -> None:
    refused = Answer(403, {}, b'{"error": {"code": 301, "message": "No."}}')
    assert (refused.code, refused.message) == (301, "No.")
    with pytest.raises(AssertionError, match="403: "):
        refused.data  # noqa: B018
    good = Answer(200, {}, b'{"data": [1]}')
    assert good.data == [1]
    with pytest.raises(AssertionError, match="200"):
        good.code  # noqa: B018
