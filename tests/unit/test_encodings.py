"""How thumbnails are encoded: by the format that is asked for, and by what the client accepts."""

import pytest

from directus_tx.errors import InvalidRequest
from directus_tx.files import encodings
from directus_tx.files.encodings import ENCODINGS, NotEncodable, choose
from directus_tx.files.focus import check_focus, focus_of

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
OLD_CHROME = "image/webp,image/apng,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (CHROME, "AVIF"),
        (OLD_CHROME, "WEBP"),
        ("image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", "own"),
        ("image/webp,image/avif", "AVIF"),
        ("image/avif;q=0.5,image/webp", "WEBP"),
        ("image/avif;q=0.5,image/webp;q=0.6", "WEBP"),
        ("image/avif;q=0,image/webp;q=0", "own"),
        ("image/avif;q=0.0,image/webp", "WEBP"),
        ("image/avif; q=0.8, image/*; q=0.9", "own"),
        ("image/avif;q=0.8,*/*;q=0.9", "own"),
        ("image/avif;q=0.8,image/jpeg;q=0.1,image/*", "AVIF"),
        ("image/avif;q=0.8,image/jpeg;q=0.9,image/*;q=0.1", "own"),
        ("image/avif;q=0.8,image/*;q=0.8", "AVIF"),
        ("IMAGE/AVIF", "AVIF"),
        ("image/avif;Q=0,image/WebP;Q=1.000", "WEBP"),
        ("image/avif;level=1;q=0.4,image/webp;q=0.5", "WEBP"),
        (" image/avif ;\tq = 0.3 , image/webp;q=0.2", "AVIF"),
        ("*/*", "own"),
        ("image/*", "own"),
        ("text/html", "own"),
        ("", "own"),
        (",,;;q=,image", "own"),
        # What is malformed does not count.
        ("image/avif;q=2,image/webp", "WEBP"),
        ("image/avif;q=-1,image/webp;q=0.1", "WEBP"),
        ("image/avif;q=nan,image/webp;q=inf,*/*;q=1e3", "own"),
        ("image/avif;q=0.1234,image/webp;q=0.1", "WEBP"),
        ("image/avif;q=٠,image/webp", "WEBP"),
        ("image/avif;q=", "own"),
    ],
)
@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/gif", "image/tiff"])
def test_auto_is_what_the_client_accepts(accept: str, expected: str, kind: str) -> None:
    own = ENCODINGS[kind]
    accept = accept.replace("image/jpeg", own.media_type)
    assert choose(kind, "auto", accept).name == (own.name if expected == "own" else expected)


def test_auto_of_a_type_that_is_small_already() -> None:
    assert choose("image/webp", "auto", OLD_CHROME).name == "WEBP"
    assert choose("image/webp", "auto", "*/*").name == "WEBP"
    assert choose("image/webp", "auto", CHROME).name == "AVIF"
    assert choose("image/webp", "auto", "image/avif;q=0.9,image/webp").name == "WEBP"


def test_a_format_that_is_asked_for_does_not_depend_on_the_client() -> None:
    for kind in ENCODINGS:
        found = [choose(kind, format, accept).name for format in ("jpg", "png", "webp", "avif") for accept in ("", CHROME)]
        assert found == ["JPEG", "JPEG", "PNG", "PNG", "WEBP", "WEBP", "AVIF", "AVIF"]
        assert choose(kind, "", CHROME) is ENCODINGS[kind]


def test_a_server_that_cannot_make_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings.features, "check", lambda name: name != "avif")
    assert choose("image/png", "auto", CHROME).name == "WEBP"
    assert choose("image/png", "auto", "image/avif").name == "PNG"
    with pytest.raises(NotEncodable, match="AVIF"):
        choose("image/png", "avif", CHROME)


@pytest.mark.parametrize("kind", ["image/svg+xml", "application/pdf", "", "image/avif"])
def test_types_without_thumbnails(kind: str) -> None:
    for format in ("", "auto", "png"):
        with pytest.raises(NotEncodable):
            choose(kind, format, CHROME)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"focal_x": 0.25, "focal_y": 0.75}, (0.25, 0.75)),
        ('{"focal_x": 0.25, "focal_y": 0.75}', (0.25, 0.75)),
        ({"focal_x": 0}, (0.0, 0.5)),
        ({"focal_y": 1}, (0.5, 1.0)),
        ({"focal_x": -3, "focal_y": 7e300}, (0.0, 1.0)),
        ({"focal_x": 10**400, "focal_y": -(10**400)}, (1.0, 0.0)),
        ({"focal_x": 1 / 3, "focal_y": 0.49999}, (0.333, 0.5)),
        ({"focal_x": True, "focal_y": "0.2"}, (0.5, 0.5)),
        ({"focal_x": None, "focal_y": [0.1]}, (0.5, 0.5)),
        ({"focal_x": float("nan"), "focal_y": float("inf")}, (0.5, 1.0)),
        *((each, (0.5, 0.5)) for each in (None, "", "{", "[1]", [], {}, 3, {"focal": 0.1})),
    ],
)
def test_focal_points(metadata: object, expected: tuple[float, float]) -> None:
    assert focus_of(metadata) == expected


@pytest.mark.parametrize("value", ["0.5", True, [], {}, ""])
def test_a_focal_point_is_a_number(value: object) -> None:
    for name in ("focal_x", "focal_y"):
        with pytest.raises(InvalidRequest, match=name):
            check_focus({"focal_x": 0.5, name: value})


@pytest.mark.parametrize("value", [None, 0, 1, 0.5, -1, 7])
def test_focal_points_that_may_be_stored(value: object) -> None:
    check_focus({"focal_x": value, "focal_y": value, "camera": "box"})
    check_focus(None)
    check_focus([])
