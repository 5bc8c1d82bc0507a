"""Chromium, without a window, for the tests of pages, and servers of pages that use the API."""

import functools
import http.server
import pathlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium (Debian: apt-get install chromium-driver)")


@contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    # Chromium refuses to run as root in its sandbox, and needs more shared memory than containers have.
    for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(each)
    # Some browsers send third-party cookies and some do not. Here it does: then only the server can refuse a page.
    options.add_experimental_option("prefs", {"profile.cookie_controls_mode": 0, "profile.block_third_party_cookies": False})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield found
    finally:
        found.quit()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None: ...


@contextmanager
def pages(directory: pathlib.Path) -> Iterator[int]:
    """A server of the files of a directory, on loopback. Yields its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
