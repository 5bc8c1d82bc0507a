"""Single sign-on in a browser, with a provider on another site, and in several processes."""

import http.cookies
import json
import pathlib
import urllib.error
import urllib.parse
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
import tomli_w
from selenium.webdriver.support.ui import WebDriverWait

from tests.daemon import Daemon
from tests.live.browser import needs_browser, pages
from tests.live.test_command import run
from tests.live.test_processes import started
from tests.provider import CLIENT, SECRET, Provider, providing

PAGE = """<!doctype html>
<title>waiting</title>
<script>
const api = "API";
async function show() {
  const parameters = new URLSearchParams(location.search);
  const headers = {"Content-Type": "application/json"};
  const token = parameters.get("request_token");
  if (parameters.has("error")) return "error " + parameters.get("code");
  if (token) {
    const body = JSON.stringify({request_token: token});
    const answer = await fetch(api + "/auth/sso/access_token", {method: "POST", headers, body});
    headers.Authorization = "bearer " + (await answer.json()).data.token;
  }
  const me = await fetch(api + "/users/me?fields=email", {headers, credentials: "include"});
  return me.ok ? (await me.json()).data.email : "public";
}
show().then(text => { document.title = text; }, error => { document.title = "failed " + error; });
</script>
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("sso")


@pytest.fixture(scope="module")
def page(directory: pathlib.Path) -> Iterator[str]:
    """The origin of a page that the project names."""
    (directory / "pages").mkdir()
    with pages(directory / "pages") as port:
        yield f"http://localhost:{port}"


@pytest.fixture(scope="module")
def daemon(directory: pathlib.Path, page: str, provider: Provider) -> Iterator[Daemon]:
    """A server of two processes, whose project has the provider."""
    found = started(directory, DIRECTUS_OUTGOING_ALLOWED_NETWORKS="127.0.0.0/8")
    found.create_project("p")
    file = directory / "var" / "projects" / "p.toml"
    company = {"client_id": CLIENT, "client_secret": SECRET, "issuer": f"{provider.url}/browser", "create_users": True, "role": 1}
    auth = {"redirect_origins": [page], "social_providers": {"company": company}}
    file.write_text(f"{file.read_text()}\n{tomli_w.dumps({'cors': {'origin': [page]}, 'auth': auth})}")
    (directory / "pages" / "index.html").write_text(PAGE.replace("API", f"http://localhost:{found.port}/p"))
    yield found
    assert found.stop() == 0


def title(browser: Any) -> str:
    """Returns the title of the page when it is settled."""
    WebDriverWait(browser, 60).until(lambda each: each.title != "waiting")
    return browser.title


def begin(daemon: Daemon, page: str, mode: str) -> str:
    query = urllib.parse.urlencode({"mode": mode, "redirect_url": f"{page}/"})
    return f"http://localhost:{daemon.port}/p/auth/sso/company?{query}"


@needs_browser
@pytest.mark.parametrize("mode", ["cookie", "jwt"])
def test_a_page_signs_its_visitor_on(browser: Any, daemon: Daemon, page: str, mode: str) -> None:
    """The provider, 127.0.0.1, is another site than the server and the page, localhost: cookies that are SameSite=Strict would not be sent
    when it redirects."""
    browser.get(f"{page}/")
    assert title(browser) == "public"
    browser.get(begin(daemon, page, mode))
    assert title(browser) == "ada@example.com"
    assert browser.current_url.startswith(f"{page}/")
    # The cookie stays; the token was that of the page.
    browser.get(f"{page}/")
    assert title(browser) == ("ada@example.com" if mode == "cookie" else "public")


@needs_browser
def test_a_page_cannot_sign_its_visitor_on_as_somebody_else(browser: Any, daemon: Daemon, page: str) -> None:
    """With the code and the state of a sign-on of its own."""
    stolen = answer_of_provider(daemon, page)
    browser.get(f"{page}/")
    browser.get(stolen)
    assert '"code":120' in browser.page_source
    browser.get(f"{page}/")
    assert title(browser) == "public"


def answer_of_provider(daemon: Daemon, page: str) -> str:
    """Returns the address with which the provider sends another browser back."""
    location, _ = get(begin(daemon, page, "cookie"))
    return get(location)[0]


def get(url: str, cookie: str = "") -> tuple[str, str]:
    """Returns where an address leads, and the cookie that the answer sets, over a connection of its own: any process may answer."""
    parsed = urllib.parse.urlsplit(url)
    connection = HTTPConnection("127.0.0.1", parsed.port or 80, timeout=60)
    try:
        host = {"Host": parsed.netloc}
        connection.request("GET", f"{parsed.path}?{parsed.query}", headers=host | ({"Cookie": cookie} if cookie else {}))
        answer = connection.getresponse()
        answer.read()
        found = http.cookies.SimpleCookie(answer.headers["set-cookie"] or "")
        return answer.headers["location"] or "", "; ".join(f"{each.key}={each.value}" for each in found.values())
    finally:
        connection.close()


def test_any_process_ends_what_another_has_begun(daemon: Daemon, page: str) -> None:
    for _ in range(12):
        location, cookie = get(begin(daemon, page, "jwt"))
        back, _ = get(location)
        location, _ = get(back, cookie)
        assert location.startswith(f"{page}/?request_token=")
        token = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["request_token"][0]
        answers = []
        for _ in range(3):
            try:
                answers.append("token" in daemon.call("POST", "/p/auth/sso/access_token", {"request_token": token}, None)["data"])
            except urllib.error.HTTPError as error:
                with error:
                    answers.append(error.code)
        assert answers == [True, 401, 401]
        # The flow counts once, in all processes.
        assert all(get(back, cookie)[0] == f"{page}/?error=true&code=120" for _ in range(3))


def test_the_command_links_an_account_that_may_not_be_linked_by_its_address(
    daemon: Daemon, page: str, provider: Provider
) -> None:
    """That of an administrator, for example; and says what is wrong."""
    options = ("--json", "--data-dir", str(daemon.directory / "var"))

    def directus(*arguments: str) -> Any:
        done = run(daemon.directory, "identity", *arguments, *options)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    assert "no provider github" in directus("link", "p", "admin@example.com", "github", "boss")
    made = directus("link", "p", "admin@example.com", "company", "boss")
    assert made["user"] == 1
    assert "belongs to a user already" in directus("link", "p", "admin@example.com", "company", "boss")
    provider.behave("browser", claims={"sub": "boss", "email": None}, user={"sub": "boss"})
    location, cookie = get(begin(daemon, page, "jwt"))
    location, _ = get(get(location)[0], cookie)
    token = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["request_token"][0]
    signed_in = daemon.call("POST", "/p/auth/sso/access_token", {"request_token": token}, None)["data"]
    assert signed_in["user"]["email"] == "admin@example.com"
    assert directus("remove", "p", str(made["id"])) == {"removed": [made["id"]]}
    location, cookie = get(begin(daemon, page, "jwt"))
    assert get(get(location)[0], cookie)[0].endswith("?error=true&code=121")
    provider.behave("browser")
