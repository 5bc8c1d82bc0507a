"""A small server with the protocol of Meilisearch: documents, tasks that are performed a moment later, and search."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "engine-key"


class Meilisearch:
    """The engine. `indexes` are the documents by index and id. `refusing` is the status that requests are refused with, None if they are
    not. `broken` says of a document whether the task that adds it fails."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.indexes: dict[str, dict[str, dict[str, Any]]] = {}
        self.tasks: list[dict[str, Any]] = []
        self.refusing: int | None = None
        self.broken: Callable[[dict[str, Any]], bool] = lambda document: False
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                with engine.lock:
                    status, answer = engine.answer(self.command, self.path, self.headers.get("Authorization"), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _serve

            def log_message(self, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def documents(self, index: str) -> dict[str, dict[str, Any]]:
        """Returns the documents of an index by the keys of their items."""
        with self.lock:
            self._perform()
            return {each["_key"]: each for each in self.indexes.get(index, {}).values()}

    def answer(self, method: str, path: str, key: str | None, body: Any) -> tuple[int, Any]:
        if self.refusing is not None:
            return self.refusing, {"message": "refused", "code": "refused"}
        if key != f"Bearer {KEY}":
            return 403, {"message": "The provided API key is invalid.", "code": "invalid_api_key"}
        path, _, query = path.partition("?")
        if found := re.fullmatch(r"/tasks/(\d+)", path):
            task = self.tasks[int(found[1])]
            # A task is performed when it is asked for the second time.
            if task["asked"]:
                self._perform()
            task["asked"] = True
            return 200, {"uid": int(found[1]), "status": task["status"], "error": task["error"]}
        found = re.fullmatch(r"/indexes/([A-Za-z0-9_-]+)(?:/(documents|search)(?:/([A-Za-z0-9_-]+))?)?", path)
        if found is None:
            return 404, {"message": f"{path} not found", "code": "not_found"}
        index, what, id = found.groups()
        if what == "search" and method == "POST":
            return self._search(index, body)
        if method == "POST" and what == "documents" and query == "primaryKey=_id" and isinstance(body, list):
            return self._enqueue(lambda: self._add(index, body))
        if method == "DELETE" and id is not None:
            return self._enqueue(lambda: self._existing(index).pop(id, None))
        if method == "DELETE" and what == "documents":
            return self._enqueue(lambda: self._existing(index).clear())
        if method == "DELETE" and what is None:
            return self._enqueue(lambda: self._existing(index) and self.indexes.pop(index))
        return 405, {"message": "method not allowed", "code": "method"}

    def _search(self, index: str, body: Any) -> tuple[int, Any]:
        self._perform()
        if index not in self.indexes:
            return 404, {"message": f"Index `{index}` not found.", "code": "index_not_found"}
        words = body["q"].lower().split()

        def places(document: dict[str, Any]) -> list[int]:
            text = " ".join(str(document.get(name)).lower() for name in body["attributesToSearchOn"])
            return [text.find(word) for word in words]

        hits = [each for each in self.indexes[index].values() if -1 not in places(each)]
        ranked = sorted(hits, key=lambda document: (sum(places(document)), document["_key"]))
        return 200, {"hits": [{"_key": each["_key"]} for each in ranked[: body["limit"]]], "estimatedTotalHits": len(hits)}

    def _enqueue(self, work: Callable[[], object]) -> tuple[int, Any]:
        self.tasks.append({"status": "enqueued", "work": work, "error": None, "asked": False})
        return 202, {"taskUid": len(self.tasks) - 1, "status": "enqueued"}

    def _perform(self) -> None:
        for task in self.tasks:
            if task["status"] == "enqueued":
                try:
                    task["work"]()
                    task["status"] = "succeeded"
                except LookupError:
                    task.update(status="failed", error={"message": "Index not found.", "code": "index_not_found"})
                except ValueError as error:
                    task.update(status="failed", error={"message": str(error), "code": "invalid_document"})

    def _existing(self, index: str) -> dict[str, dict[str, Any]]:
        if index not in self.indexes:
            raise LookupError(index)
        return self.indexes[index]

    def _add(self, index: str, documents: list[dict[str, Any]]) -> None:
        for each in documents:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,511}", str(each["_id"])) or self.broken(each):
                raise ValueError("Document has an invalid value.")
        self.indexes.setdefault(index, {}).update({each["_id"]: each for each in documents})
