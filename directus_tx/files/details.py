"""The metadata in the contents of files, read on request in the processes that decode pictures."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from twisted.logger import Logger

from directus_tx.config import FileSettings
from directus_tx.errors import InvalidPayload, ServiceUnavailable
from directus_tx.files.decoding import Decoder, Decoders
from directus_tx.files.resizing import NotResizable

log = Logger()


class Details:
    """Reads the details of contents, at most files.max_thumbnails at once or waiting."""

    def __init__(self, settings: FileSettings, decoders: Decoders) -> None:
        self.settings = settings
        self.decoders = decoders
        self.running = 0

    async def read(self, storage: Any, name: str) -> Mapping[str, Any]:
        """Returns what `metadata.read_metadata` does of a content in a storage. Raises InvalidPayload if it is damaged or too large,
        ServiceUnavailable if too many are being read, FileNotStored, and the errors of the storage."""
        if self.running >= self.settings.max_thumbnails:
            raise ServiceUnavailable(
                f"The server reads the details of {self.running} files already (files.max_thumbnails); try again shortly.",
                headers={"Retry-After": "5"},
            )
        self.running += 1
        try:
            return await self._read(storage, name)
        except NotResizable as error:
            raise InvalidPayload(str(error)) from None
        except OSError as error:
            log.error("a process or a temporary file for details cannot be used: {error}", error=error)
            raise ServiceUnavailable("The details cannot be read now; see the server's log.") from None
        finally:
            self.running -= 1

    async def _read(self, storage: Any, name: str) -> Mapping[str, Any]:
        most = self.settings.max_picture_size

        async def work(decoder: Decoder) -> Mapping[str, Any]:
            length = 0
            async with aclosing(storage.read(name, 0, most + 1)) as pieces:
                async for piece in pieces:
                    decoder.fill(piece)
                    length += len(piece)
            if length > most:
                raise NotResizable(f"The content has more than {most} bytes (files.max_picture_size).")
            return await decoder.read_details(self.settings.max_pixels)

        return await self.decoders.decode(work)
