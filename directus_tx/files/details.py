"""The metadata in the contents of files, read on request in the processes that decode pictures."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from twisted.logger import Logger

from directus_tx.config import FileSettings
from directus_tx.db.callers import Caller
from directus_tx.errors import InvalidPayload, ServiceUnavailable
from directus_tx.files.decoding import Decoder, Decoders
from directus_tx.files.fairness import AdmissionLimit, Permit
from directus_tx.files.resizing import NotResizable

log = Logger()


class Details:
    """Reads the details of contents, at most files.max_thumbnails at once or waiting (`running`)."""

    def __init__(self, settings: FileSettings, decoders: Decoders) -> None:
        self.settings = settings
        self.decoders = decoders
        self.running = AdmissionLimit()

    async def read(self, project: str, storage: Any, name: str, caller: Caller = None) -> Mapping[str, Any]:
        """Returns what `metadata.read_metadata` does of a content in the storage of a project. Raises InvalidPayload if it is damaged or
        too large, ServiceUnavailable if too many are being read, FileNotStored, and the errors of the storage."""
        what = f"The server reads the details of {len(self.running)} files already (files.max_thumbnails)"
        self.running.enter(self.settings.max_thumbnails, project, caller, what)
        try:
            return await self._read(self.decoders.semaphore.ask(project, caller), storage, name)
        except NotResizable as error:
            raise InvalidPayload(str(error)) from None
        except OSError as error:
            log.error("a process or a temporary file for details cannot be used: {error}", error=error)
            raise ServiceUnavailable("The details cannot be read now; see the server's log.") from None
        finally:
            self.running.leave(project, caller)

    async def _read(self, permit: Permit, storage: Any, name: str) -> Mapping[str, Any]:
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

        return await self.decoders.decode(permit, work)
