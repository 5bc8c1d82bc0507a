"""The files of the extensions of the admin app, below /extensions/custom/KIND/NAME/."""

import os
import pathlib
from collections.abc import Sequence

from twisted.internet.threads import deferToThread

from directus_tx.errors import NotFound
from directus_tx.extensions import Extensions
from directus_tx.http.admin_app import policy
from directus_tx.http.answers import Answer, Streamed
from directus_tx.http.static_files import file_answer, is_name, open_file

FIRST_PART = "extensions"
"""The first part of the paths of the files."""

_POLICY = policy()


class ExtensionFiles:
    """Serves the files of extensions to everybody: the admin app loads them with script elements, which have no token."""

    def __init__(self, extensions: Extensions, given_policy: str = "") -> None:
        self.extensions = extensions
        self._policy = given_policy or _POLICY

    async def answer(self, parts: Sequence[str], if_none_match: bytes | None) -> Answer | Streamed:
        """Returns the file that the decoded parts of a path behind /extensions/ name. Raises NotFound if there is none, or if the path
        leads out of the directory of the extension or to a hidden file."""
        if len(parts) < 4 or parts[0] != "custom" or not all(is_name(part) for part in parts):
            raise NotFound
        extension = self.extensions.get(parts[1], parts[2])
        if extension is None:
            raise NotFound
        return await deferToThread(self._open, extension.directory, parts[3:], if_none_match)

    def _open(self, directory: pathlib.Path, parts: Sequence[str], if_none_match: bytes | None) -> Answer | Streamed:
        found = open_file(directory.resolve(), parts)
        if found is None:
            raise NotFound
        descriptor, status = found
        try:
            return file_answer(parts[-1], descriptor, status, self._policy, if_none_match)
        except BaseException:
            os.close(descriptor)
            raise
