"""A provider of single sign-on as a process of its own, which answers as tests tell it: honestly, or in every hostile way.

It serves any number of realms, /NAME, each an issuer of its own. PUT /NAME/behaviour replaces the `Behaviour` of a realm; GET
/NAME/requests lists the paths that were requested. The honest answers are those of OpenID Connect Core: a code is redeemed once, for the
client, the redirect URI and the PKCE verifier that it was asked for with. Below /NAME/login, /NAME/api/v3 and /NAME/v19.0 it answers as
GitHub and Facebook do.
"""

import base64
import collections
import contextlib
import hashlib
import hmac
import http.server
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from attrs import field, frozen, mutable
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT, SECRET = "directus client", "s%c:ret/+ü"
KEYS: dict[str, Any] = {}
"""The keys of all realms, made when they are needed."""


def key(name: str) -> Any:
    """Returns a private key. The beginning of its name says of which kind it is."""
    if name not in KEYS:
        if name.startswith("EC"):
            KEYS[name] = ec.generate_private_key(ec.SECP256R1())
        elif name.startswith("Ed"):
            KEYS[name] = ed25519.Ed25519PrivateKey.generate()
        else:
            KEYS[name] = rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)
    return KEYS[name]


def published(name: str, *, kid: bool = True) -> dict[str, Any]:
    """Returns a public key as a key set has it."""
    algorithm = {"EC": "ES256", "Ed": "EdDSA"}.get(name[:2], "RS256")
    found = jwt.get_algorithm_by_name(algorithm).to_jwk(key(name).public_key(), as_dict=True)
    return {**found, "use": "sig"} | ({"kid": name} if kid else {})


@mutable
class Behaviour:
    """How a realm answers. `claims` replace those of ID tokens (None: removed). `algorithm` and `signer` sign them, `kid` is in their
    header ("": the signer's name, None: none). `keys` are published. `discovery` and `user` replace claims of the discovery document and
    of the userinfo endpoint. `parameters` replace those of the redirect back. `faults` say for endpoints (discovery, keys, token, userinfo)
    how they fail instead of answering. `honest`: codes are redeemed only once and with the right client, redirect URI and verifier."""

    claims: dict[str, Any] = field(factory=dict)
    algorithm: str = "RS256"
    signer: str = "first"
    kid: str | None = ""
    keys: list[str] = field(factory=lambda: ["first"])
    named: bool = True
    discovery: dict[str, Any] = field(factory=dict)
    user: dict[str, Any] = field(factory=dict)
    emails: Any = None
    parameters: dict[str, Any] = field(factory=dict)
    answer: dict[str, Any] = field(factory=dict)
    faults: dict[str, str] = field(factory=dict)
    honest: bool = True


class State:
    """What the process knows: the behaviours of the realms, the codes that were given out, and the requests."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.behaviours: dict[str, Behaviour] = collections.defaultdict(Behaviour)
        self.codes: dict[str, dict[str, str]] = {}
        self.requests: dict[str, list[str]] = collections.defaultdict(list)
        self.released: set[str] = set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_PUT(self) -> None:
        realm = self.path.split("/")[1]
        with self.state.lock:
            if self.path.endswith("/release"):
                self.state.released.add(realm)
            else:
                self.state.behaviours[realm] = Behaviour(**json.loads(self.body()))
        self.send({})

    def do_GET(self) -> None:
        self.dispatch()

    do_POST = do_GET

    def dispatch(self) -> None:
        parsed = urllib.parse.urlsplit(self.path)
        realm, _, place = parsed.path.removeprefix("/").partition("/")
        query = dict(urllib.parse.parse_qsl(parsed.query))
        with self.state.lock:
            behaviour = self.state.behaviours[realm]
            if place == "requests":
                self.send(self.state.requests[realm])
                return
            self.state.requests[realm].append(place)
        base = f"http://{self.headers['Host']}/{realm}"
        name, act = {
            ".well-known/openid-configuration": ("discovery", self.discovery),
            "keys": ("keys", self.key_set),
            "authorize": ("authorize", self.authorize),
            "token": ("token", self.token),
            "userinfo": ("userinfo", self.userinfo),
            "login/oauth/authorize": ("authorize", self.authorize),
            "login/oauth/access_token": ("token", self.token),
            "api/v3/user": ("userinfo", self.userinfo),
            "api/v3/user/emails": ("emails", self.emails),
            "v19.0/dialog/oauth": ("authorize", self.authorize),
            "v19.0/oauth/access_token": ("token", self.token),
            "v19.0/me": ("userinfo", self.userinfo),
        }.get(place, ("unknown", self.unknown))
        fault = behaviour.faults.get(name)
        if fault is None:
            act(behaviour, base, query)
        else:
            self.fail(fault, base, realm)

    def fail(self, fault: str, base: str, realm: str) -> None:
        """Answers in a hostile way."""
        if fault == "hang":
            # Until the client gives up, or `release` is called.
            self.close_connection = True
            until = time.monotonic() + 60
            while time.monotonic() < until and realm not in self.state.released:
                self.connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not self.connection.recv(4096):
                        return
        elif fault == "drop":
            self.close_connection = True
        elif fault == "huge":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.close_connection = True
            try:
                self.wfile.write(b'{"keys": [], "x": "')
                for _ in range(200):
                    self.wfile.write(b"x" * 100_000)
            except OSError:
                pass
        elif fault == "redirect":
            self.send({}, 302, {"Location": f"{base}/elsewhere"})
        elif fault == "text":
            self.send_text("<html>not JSON</html>")
        elif fault == "deep":
            self.send_text("[" * 20_000)
        elif fault == "list":
            self.send_text("[1, 2]")
        elif fault == "null":
            self.send_text("null")
        elif fault.isdigit():
            self.send({"error": "x", "error_description": "a\x1b[31m\nb" * 1000}, int(fault))
        else:
            self.send(json.loads(fault))

    def unknown(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        self.send({}, 404)

    def discovery(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        document = {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/keys",
            "userinfo_endpoint": f"{base}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        self.send(replaced(document, behaviour.discovery))

    def key_set(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        self.send({"keys": [published(name, kid=behaviour.named) for name in behaviour.keys]})

    def authorize(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        """The user is signed in already and agrees."""
        if query.get("client_id") != CLIENT or query.get("response_type") != "code" or not query.get("state"):
            self.send({"error": "invalid_request"}, 400)
            return
        if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            self.send({"error": "PKCE is required"}, 400)
            return
        code = secrets.token_urlsafe(16)
        with self.state.lock:
            self.state.codes[code] = query
        parameters = replaced({"code": code, "state": query["state"]}, behaviour.parameters)
        self.send({}, 302, {"Location": f"{query['redirect_uri']}?{urllib.parse.urlencode(parameters)}"})

    def token(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        form = dict(urllib.parse.parse_qsl(self.body()))
        with self.state.lock:
            asked = self.state.codes.get(form.get("code", ""))
            if asked is not None and behaviour.honest:
                del self.state.codes[form["code"]]
        if asked is None:
            self.send({"error": "invalid_grant", "error_description": "no such code"}, 400)
            return
        if behaviour.honest and (refusal := self.refusal(form, asked)):
            self.send({"error": refusal}, 401 if refusal == "invalid_client" else 400)
            return
        now = int(time.time())
        claims = {"iss": base, "sub": "subject", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": asked.get("nonce")}
        claims |= {"email": "ada@example.com", "email_verified": True, "given_name": "Ada", "family_name": "Lovelace"}
        token = signed(replaced(claims, behaviour.claims), behaviour)
        answer = {"access_token": "an-access-token", "token_type": "Bearer", "id_token": token}
        self.send(replaced(answer, behaviour.answer))

    def refusal(self, form: dict[str, str], asked: dict[str, str]) -> str:
        """Returns the error of a token request, or an empty text."""
        scheme, _, value = (self.headers["Authorization"] or "").partition(" ")
        if scheme == "Basic":
            user, _, password = base64.b64decode(value).decode().partition(":")
            client = (urllib.parse.unquote_plus(user), urllib.parse.unquote_plus(password))
        else:
            client = (form.get("client_id", ""), form.get("client_secret", ""))
        if client != (CLIENT, SECRET):
            return "invalid_client"
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return "invalid_grant"
        if form.get("redirect_uri") != asked["redirect_uri"] or form.get("grant_type") != "authorization_code":
            return "invalid_grant"
        return ""

    def userinfo(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        if self.headers["Authorization"] != "Bearer an-access-token":
            self.send({}, 401)
        else:
            self.send(replaced({"sub": "subject"}, behaviour.user))

    def emails(self, behaviour: Behaviour, base: str, query: dict[str, str]) -> None:
        self.send(behaviour.emails)

    def body(self) -> str:
        return self.rfile.read(int(self.headers["Content-Length"])).decode()

    def send(self, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_text(json.dumps(document), status, headers)

    def send_text(self, text: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def replaced(values: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    """Returns values with others in their place; those that are None are removed."""
    return {name: value for name, value in {**values, **by}.items() if value is not None}


def signed(claims: dict[str, Any], behaviour: Behaviour) -> str:
    """Returns an ID token."""
    kid = behaviour.signer if behaviour.kid == "" else behaviour.kid
    headers = {} if kid is None else {"kid": kid}
    if behaviour.algorithm == "none":
        return jwt.encode(claims, None, "none", headers)
    if behaviour.algorithm == "HS256":
        # With the public key as the shared secret, by hand, because the library refuses it.
        public = key(behaviour.signer).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        parts = [json.dumps(each).encode() for each in ({"alg": "HS256", "typ": "JWT", **headers}, claims)]
        text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        signature = base64.urlsafe_b64encode(hmac.digest(public, text, "sha256")).rstrip(b"=")
        return (text + b"." + signature).decode()
    return jwt.encode(claims, key(behaviour.signer), behaviour.algorithm, headers)


@frozen
class Provider:
    """A provider process. `url` is its address."""

    url: str

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def behave(self, realm: str, **behaviour: Any) -> None:
        """Sets how a realm answers from now on."""
        self._request("PUT", f"/{realm}/behaviour", behaviour)

    def release(self, realm: str) -> None:
        """Drops the requests of a realm that hang."""
        self._request("PUT", f"/{realm}/release", {})

    def requests(self, realm: str) -> list[str]:
        """Returns the paths that were requested of a realm, in order."""
        found: list[str] = self._request("GET", f"/{realm}/requests")
        return found


@contextmanager
def providing() -> Iterator[Provider]:
    """A provider in a process of its own, listening on loopback."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, "the provider has not started"
            yield Provider(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Clients that give up leave connections that cannot be answered."""


if __name__ == "__main__":
    Handler.state = State()
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
