"""Pictures that are made to harm: small ones that stand for much, loops, and damaged ones. The server answers, and keeps answering."""

import io
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

from directus_tx.files.decoding import PROGRAM
from tests.api.test_assets import SMALL, asset, limit, made, shape
from tests.api.test_files import upload
from tests.conftest import Client, examples
from tests.unit.test_resizing import chunk, encoded, jpeg, png, segment, swapped_profile, tiled, webp, wide_frame

FORMATS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}


def small(format: str, mode: str = "RGB", **options: Any) -> bytes:
    return encoded(Image.effect_noise((40, 30), 90).convert(mode), format, **options)


def with_chunk(kind: bytes, data: bytes, number: int = 1) -> bytes:
    """A PNG with further chunks before its pixels."""
    content = small("PNG")
    return content[:33] + chunk(kind, data) * number + content[33:]


def packed(length: int) -> bytes:
    return zlib.compress(b"\0" * length, 9)


def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF with a directory of these entries, and the place of the one that follows."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", following) + b"\0" * 4000


SIZE = ((256, 4, 1, 40), (257, 4, 1, 30), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def bmp(width: int, height: int, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIIIII", 40, width, height, 1, 8, compression, 100, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + header + b"\0" * 1024 + b"\xff\0" * 400


def frames(number: int, format: str) -> bytes:
    some_frames = [Image.effect_noise((9, 9), 90) for _ in range(number)]
    return encoded(some_frames[0], format, save_all=True, append_images=some_frames[1:])


HTML = b"<html><script>alert(1)</script></html>"
REFUSED: dict[str, bytes] = {
    "many-pixels.png": png(50_000, 50_000),
    "largest.png": png(2**31 - 1, 2**31 - 1),
    "wide.png": png(2**31 - 1, 1),
    "frame.gif": wide_frame(65_535),
    "canvas.webp": webp(16_383, 16_383),
    "canvas-24-bits.webp": webp(2**24, 2**24),
    "scans.jpg": jpeg(2000, 60_000),
    "many-pixels.bmp": bmp(60_000, 60_000),
    "run-length.bmp": bmp(60_000, 60_000, 1),
    "negative.bmp": bmp(-60_000, 60_000),
    "tile.tif": tiled(2**30, 16),
    "square-tile.tif": tiled(32_768, 32_768),
    "many-pixels.tif": tiff((256, 4, 1, 2**31), (257, 4, 1, 2**31), *SIZE[2:]),
    "strips.tif": tiff(*SIZE, (273, 4, 2**31, 8), (279, 4, 2**31, 8), (278, 4, 1, 1)),
    "directory-at-itself.tif": tiff(*SIZE[1:], following=8),
    "directory-beyond.tif": b"II*\0" + struct.pack("<I", 2**32 - 1) + b"\0" * 100,
    "endless-entries.tif": b"II*\0" + struct.pack("<IH", 8, 65_535) + b"\xff" * 4000,
    "profile-bomb.png": with_chunk(b"iCCP", b"a\0\0" + packed(400_000_000)),
    "texts-bomb.png": with_chunk(b"zTXt", b"a\0\0" + packed(900_000), 500),
    "text-bomb.png": with_chunk(b"iTXt", b"a\0\1\0\0\0" + packed(400_000_000)),
    "picture.psd": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + b"\0" * 100,
    "psd-named.png": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + b"\0" * 100,
    "icns-named.png": b"icns" + struct.pack(">I", 1000) + b"ic10" + struct.pack(">I", 900) + small("PNG"),
    "avif-named.png": box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"meta", b"\0" * 200),
    "real-avif-named.jpg": encoded(Image.new("RGB", (40, 30)), "AVIF"),
    "ppm-named.png": b"P6 60000 60000 255\n",
    "eps-named.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\n/x {(r)file}def",
    "fits-named.tif": b"SIMPLE  =                    T" + b" " * 3000,
    "half.webp": small("WEBP")[:60],
    "empty-after-header.gif": small("GIF")[:13],
    "html-named.png": HTML,
    "svg-named.png": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "zip-named.png": b"PK\x03\x04" + b"\0" * 100,
}
"""Contents of which no thumbnail may be made."""

SHOWN: dict[str, bytes] = {
    "texts.png": with_chunk(b"zTXt", b"a\0\0" + packed(900_000), 60),
    "depth.tif": tiff(*SIZE, (273, 4, 1, 8), (279, 4, 1, 8), (338, 3, 60_000, 8)),
    "pixels-bomb.png": png(40, 30)[:33] + chunk(b"IDAT", packed(200_000_000)[:-4000]) + chunk(b"IEND", b""),
    "behind-its-end.png": small("PNG") + HTML * 10_000,
    "behind-its-end.gif": small("GIF") + HTML,
    "comment.jpg": small("JPEG")[:2] + segment(0xFE, HTML) + small("JPEG")[2:],
    "zip-behind.jpg": small("JPEG") + b"PK\x03\x04" + b"\0" * 1000 + b"PK\x05\x06" + b"\0" * 18,
    "text-chunk.png": with_chunk(b"tEXt", b"a\0" + HTML),
    "frames.gif": frames(600, "GIF"),
    "frames.png": frames(300, "PNG"),
    "frames.tif": frames(200, "TIFF"),
    "profile.jpg": small("JPEG", icc_profile=swapped_profile(2_000_000)),
    "nonsense-profile.png": small("PNG", icc_profile=b"nonsense" * 1000),
    "nonsense-profile.jpg": small("JPEG", "CMYK", icc_profile=b"\0" * 200),
    "exif.jpg": small("JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65_535) + b"\xff" * 1000),
    "exif-at-itself.jpg": small("JPEG", exif=b"Exif\0\0" + tiff((0x8769, 4, 1, 8), (0x0112, 3, 1, 77), following=8)[:100]),
}
"""Contents whose thumbnails show the picture in them and nothing else."""


def processor_seconds(pid: int | None) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest_twisted.ensureDeferred
async def test_pictures_that_stand_for_much_are_refused(client: Client) -> None:
    limit(client, thumbnail_memory=2**29)
    for name, content in REFUSED.items():
        answer = await upload(client, ("data", content, name))
        assert answer.status == 200, (name, answer.body)
        found = await asset(client, answer.data)
        assert (found.status, found.code) == (422, 12), name
        assert (
            "files." in found.json["error"]["message"] or "picture" in found.json["error"]["message"] or "type" in str(found.json)
        )
        original = await asset(client, answer.data, "")
        assert (original.status, original.body == content) == (200, True), name
        assert original.headers["x-content-type-options"] == "nosniff"
    assert await made(client) == set()
    # One process did it all, which none of them has ended or kept busy.
    (decoder,) = client.backend.thumbnails.decoders.running
    assert decoder.pictures > 10
    assert processor_seconds(decoder.pid) < 8


@pytest_twisted.ensureDeferred
async def test_pictures_with_something_else_in_them(client: Client) -> None:
    for name, content in SHOWN.items():
        answer = await upload(client, ("data", content, name))
        assert answer.status == 200, (name, answer.body)
        found = await asset(client, answer.data)
        assert shape(found)[1] == (64, 64), name
        assert b"alert" not in found.body, name
        assert len(found.body) < 30_000, name
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in found.headers["content-security-policy"]
    (decoder,) = client.backend.thumbnails.decoders.running
    assert decoder.pictures == len(SHOWN)
    assert processor_seconds(decoder.pid) < 8


class Decoder:
    """A process that decodes pictures, which is replaced when it has ended."""

    def __init__(self) -> None:
        self.files = [tempfile.TemporaryFile(buffering=0) for _ in range(2)]  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None
        self.ended: list[int] = []

    def start(self) -> "subprocess.Popen[bytes]":
        source, result = (each.fileno() for each in self.files)
        moved = f"import os; os.dup2({source}, 103); os.dup2({result}, 104); os.dup2(103, 3); os.dup2(104, 4)\n"
        started = subprocess.Popen(
            [sys.executable, "-c", moved + PROGRAM, str(os.getpid()), str(2**29)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(source, result),
        )
        assert started.stdout is not None
        assert json.loads(started.stdout.readline()) == {"ready": True}
        return started

    def make(self, content: bytes, **order: Any) -> bytes | None:
        """Returns a thumbnail of a content, None if there is none."""
        process = self.process = self.process or self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        for each in self.files:
            each.seek(0)
            each.truncate()
        self.files[0].write(content)
        whole = {
            "work": "thumbnail",
            "width": 20,
            "height": 20,
            "fit": "crop",
            "quality": 80,
            "encoding": "PNG",
            "focus": (0.5, 0.5),
        }
        line = json.dumps({**whole, "pixels": 1_000_000, "seconds": 5, **order}).encode() + b"\n"
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            self.ended.append(process.wait(60))
            self.close()
            return None
        found = json.loads(answer)
        assert found.keys() <= {"size", "refused", "memory", "details"}
        if "details" in found:
            return json.dumps(found["details"]).encode()
        return os.pread(self.files[1].fileno(), found["size"], 0) if "size" in found else None

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.wait(60)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    found = Decoder()
    yield found
    found.close()
    for each in found.files:
        each.close()


VALID = [
    *(small(format) for format in FORMATS),
    small("JPEG", "CMYK", icc_profile=swapped_profile()),
    small("JPEG", "L", progressive=True),
    small("PNG", "P", transparency=3),
    small("PNG", "LA", icc_profile=swapped_profile()),
    small("TIFF", compression="tiff_lzw"),
    small("TIFF", "1", compression="group4"),
    small("TIFF", compression="jpeg"),
    small("WEBP", "RGBA", lossless=True),
    frames(3, "GIF"),
    frames(3, "PNG"),
    frames(2, "WEBP"),
]
EDITS = some.lists(
    some.tuples(
        some.floats(0, 1),
        some.sampled_from(("set", "cut", "add", "drop", "double", "number")),
        some.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    found = bytearray(content)
    for place, kind, data in edits:
        at = int(place * len(found))
        if kind == "set":
            found[at : at + len(data)] = data
        elif kind == "cut":
            del found[at:]
        elif kind == "add":
            found[at:at] = data
        elif kind == "drop":
            del found[at : at + len(data)]
        elif kind == "double":
            found[at:at] = found[at : at + 100]
        else:
            found[at : at + 4] = random.Random(data).choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\1\0\0\0"))
    return bytes(found)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=some.sampled_from(VALID), edits=EDITS, encoding=some.sampled_from(("PNG", "JPEG", "WEBP", "GIF", "BMP")))
def test_damaged_pictures(content: bytes, edits: list[tuple[float, str, bytes]], encoding: str, decoder: Decoder) -> None:
    """Each has a thumbnail or none. If a decoder crashes, that is logged, and the next picture is decoded."""
    found = decoder.make(edited(content, edits), encoding=encoding)
    assert found is None or Image.open(io.BytesIO(found)).size == (20, 20)
    assert set(decoder.ended) <= {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGPROF}
    assert len(decoder.ended) < 5


def test_pictures_that_are_not_damaged(decoder: Decoder) -> None:
    for content in VALID:
        assert decoder.make(content) is not None
    assert SMALL
