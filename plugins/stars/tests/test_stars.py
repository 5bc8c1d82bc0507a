"""The extensions as the admin app gets them: their lists, their files, and what the components show and do."""

import json
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from directus_tx.testing import Project

DRIVER = pathlib.Path(__file__).with_name("components.js")
SCRIPTS = {
    "interfaces": ("stars", ["input.js", "display.js", "input.css"]),
    "layouts": ("stars-list", ["layout.js"]),
    "modules": ("item-counts", ["module.js"]),
}


def listed(project: Project, kind: str) -> list[dict[str, Any]]:
    path = f"/{kind}?project={project.project}&access_token={project.token}"
    return project.server.call("GET", path).data


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_app_finds_and_loads_them(directus_project: Project, kind: str) -> None:
    id, names = SCRIPTS[kind]
    (found,) = (each for each in listed(directus_project, kind) if each["id"] == id)
    assert found["name"]
    for name in names:
        answer = directus_project.server.call("GET", "/" + found["path"].replace("meta.json", name))
        assert answer.status == 200
        script = name.endswith(".js")
        assert answer.headers["content-type"].startswith("text/javascript" if script else "text/css")
        assert not script or b"__DirectusExtension__" in answer.body


def test_the_texts_of_the_interface_are_translated(directus_project: Project) -> None:
    (found,) = (each for each in listed(directus_project, "interfaces") if each["id"] == "stars")
    used = {found["name"], found["options"]["stars"]["name"], found["options"]["stars"]["comment"]}
    for texts in found["translation"].values():
        assert {f"$t:{key}" for key in texts} == used


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine (Debian: apt-get install nodejs)")
def test_the_components_show_and_do_what_they_should(directus_project: Project, tmp_path: pathlib.Path) -> None:
    """With a loader as small as the app's, in node."""
    for kind, (id, names) in SCRIPTS.items():
        for name in names:
            path = f"/extensions/custom/{kind}/{id}/{name}"
            (tmp_path / name).write_bytes(directus_project.server.call("GET", path).body)
    done = subprocess.run(["node", str(DRIVER), str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "input": "★★★☆☆",
        "options": "★★★☆☆☆☆",
        "clicked": [5, None],
        "readonly": [True] * 5,
        "display": ["", "☆☆☆☆☆", "★★★☆☆", "★★★★★"],
        "layout": ["Best ★★★★★", "Good ★★★", "3 "],
        "module": ["articles2", "notes10"],
        "failed": "Forbidden",
    }
