"""The settings of storages: the table `storage` of a project file, and for what it lacks, those of the server."""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from directus_tx.config import StorageSettings
from directus_tx.files.storage.interfaces import InvalidName, check_name

LOCAL, S3 = "local", "s3"
PATH, VIRTUAL = "path", "virtual"
_BUCKET = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{1,253}")
_REGION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,62}")


@frozen
class LocalSettings:
    """A storage on a local disk: its directory. `owned`: it is the directory that the project has without a setting."""

    root: pathlib.Path
    owned: bool


@frozen
class S3Settings:
    """A bucket of Amazon S3, or of another server with its protocol at `endpoint`. `prefix` is the beginning of all keys, without a slash
    at the end. `virtual`: the bucket is in the name of the host, not in the path. Without `key` and `secret`, the credentials are those of
    the environment (AWS_ACCESS_KEY_ID) or of the machine. `ca` is in PEM format, or empty. `spool` is the directory for unfinished
    uploads."""

    bucket: str
    prefix: str
    region: str
    endpoint: str
    virtual: bool
    key: str
    secret: str = field(repr=False)
    ca: str = field(repr=False)
    spool: pathlib.Path

    @property
    def base(self) -> str:
        """The URL of the bucket, without a slash at the end."""
        if not self.endpoint:
            return f"https://{self.bucket}.s3.{self.region}.amazonaws.com"
        scheme, _, rest = self.endpoint.rstrip("/").partition("://")
        return f"{scheme}://{self.bucket}.{rest}" if self.virtual else f"{scheme}://{rest}/{self.bucket}"


def local_settings(project: str, table: Mapping[str, Any], server: StorageSettings, data_dir: pathlib.Path) -> LocalSettings:
    """Returns the settings of the storage of a project with this table `storage`. Other properties of the table are ignored: project files
    of Directus 8 have them. Raises ValueError, whose message says what is wrong."""
    directory = pathlib.Path(server.root) if server.adapter == LOCAL and server.root else data_dir / "storage"
    root = text_of(table, "root")
    if not root:
        return LocalSettings(directory / project, owned=True)
    if os.path.isabs(root):
        return LocalSettings(pathlib.Path(root), owned=False)
    try:
        return LocalSettings(directory / check_name(root), owned=False)
    except InvalidName:
        raise ValueError("storage.root must be an absolute path, or the name of a directory in the directory storage") from None


def s3_settings(project: str, table: Mapping[str, Any], server: StorageSettings, data_dir: pathlib.Path) -> S3Settings:
    """Returns the settings of the storage of a project with this table `storage`, as `local_settings` does."""
    found = {
        name: text_of(table, name) for name in ("bucket", "root", "region", "endpoint", "addressing", "key", "secret", "ca_file")
    }
    if server.adapter == S3:
        prefix = "/".join(each for each in (server.root.strip("/"), project) if each)
        if not found["key"] and not found["secret"] and found["endpoint"] in ("", server.endpoint):
            found |= {"key": server.key, "secret": server.secret}
        if not found["endpoint"]:
            found |= {name: found[name] or getattr(server, name) for name in ("endpoint", "addressing", "region", "ca_file")}
        found["bucket"] = found["bucket"] or server.bucket
    else:
        prefix = project
    prefix = found["root"].strip("/") or prefix
    region = found["region"] or "us-east-1"
    if not _BUCKET.fullmatch(found["bucket"]):
        raise ValueError("storage.bucket must be the name of a bucket")
    if not _REGION.fullmatch(region):
        raise ValueError("storage.region must be the name of a region, like eu-central-1")
    if found["addressing"] not in ("", PATH, VIRTUAL):
        raise ValueError(f"storage.addressing must be {PATH} or {VIRTUAL}")
    if bool(found["key"]) != bool(found["secret"]):
        raise ValueError("storage.key and storage.secret must both be set, or neither")
    try:
        check_name(prefix)
    except InvalidName:
        raise ValueError("storage.root must be a prefix of letters, digits and _ - . ^ with slashes") from None
    parts = urlsplit(found["endpoint"])
    if found["endpoint"] and (
        parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.path.strip("/")
    ):
        raise ValueError("storage.endpoint must be a URL like https://s3.example.com")
    return S3Settings(
        bucket=found["bucket"],
        prefix=prefix,
        region=region,
        endpoint=found["endpoint"],
        virtual=found["addressing"] == VIRTUAL or not (found["endpoint"] or found["addressing"]),
        key=found["key"],
        secret=found["secret"],
        ca=_certificates(found["ca_file"]),
        spool=data_dir / "storage" / project,
    )


def _certificates(file: str) -> str:
    if not file:
        return ""
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"storage.ca_file: {error}") from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError("storage.ca_file must have certificates in PEM format")
    return text


def text_of(table: Mapping[str, Any], name: str) -> str:
    """Returns a text of a table `storage`, empty if it is missing. Raises ValueError if it is not a text."""
    value = table.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or any(ord(each) < 32 for each in value):
        raise ValueError(f"storage.{name} must be a text")
    return value
