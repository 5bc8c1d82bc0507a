"""What uploads are measured against: a bare Twisted program that writes the body of each request to a file.

    python -m tests.bench.bare_files PORT DIRECTORY [hashed]

With `hashed` it also computes the MD5 and the SHA-256 of the body, and has the file on the disk (fsync) before it answers.
"""

import hashlib
import os
import sys
import tempfile

from twisted.internet import reactor
from twisted.web.http import HTTPChannel, HTTPFactory, Request

PORT, DIRECTORY = int(sys.argv[1]), sys.argv[2]
HASHED = sys.argv[3:] == ["hashed"]


class Upload(Request):
    def gotLength(self, length):
        self.content = tempfile.NamedTemporaryFile(dir=DIRECTORY)  # noqa: SIM115
        self.hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha256()] if HASHED else []

    def handleContentChunk(self, data):
        self.content.write(data)
        for each in self.hashes:
            each.update(data)

    def process(self):
        self.content.flush()
        if HASHED:
            os.fsync(self.content.fileno())
        self.content.close()
        self.finish()


class Channel(HTTPChannel):
    requestFactory = Upload


class Factory(HTTPFactory):
    def buildProtocol(self, address):
        return Channel()


if __name__ == "__main__":
    reactor.listenTCP(PORT, Factory(), interface="127.0.0.1")
    reactor.run()
