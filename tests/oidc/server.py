"""An OpenID provider as a process: the doors of a GitLab, and a back door that tells it what to do.

It begins with one line of JSON on standard input (keys, users) and answers with its port.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

LOCK = threading.Lock()
START: dict[str, Any] = json.loads(sys.stdin.readline()) if __name__ == "__main__" else {}
DEFAULTS: dict[str, Any] = {
    "claims": {},  # changes of the ID token; null takes one away
    "tamper": False,
    "id_token": True,
    "lifetime": 300,
    "access_audience": "",  # a JWT for it instead of an opaque access token
    "polls": [],  # what the token endpoint says before the person has agreed
    "person": "agrees",
    "interval": 1,
    "expires_in": 600,
    "metadata": {},
    "authorization": {},  # changes of the browser's way back
    "down": [],  # paths that answer 503
    "secret": "",
    "rotate": True,
}
STATE: dict[str, Any] = {}
BOOKS: dict[str, Any] = {}


def reset() -> None:
    STATE.clear()
    STATE.update(json.loads(json.dumps(DEFAULTS)))
    BOOKS.clear()
    BOOKS.update(codes={}, refresh={}, used=[], revoked=[], seen={}, forms=[], given=[])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        place = urllib.parse.urlsplit(self.path)
        with LOCK:
            self.answer(place.path, dict(urllib.parse.parse_qsl(place.query)), post=False)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if self.path == "/control":
            with LOCK:
                change = json.loads(body)
                if change is None:
                    reset()
                else:
                    STATE.update(change)
                self.say(200, BOOKS | {"state": STATE})
            return
        pairs = urllib.parse.parse_qsl(body, keep_blank_values=True)
        form = dict(pairs)
        with LOCK:
            if len(form) != len(pairs):
                self.refuse("invalid_request")
                return
            BOOKS["forms"].append([self.path, form])
            self.answer(self.path, form, post=True)

    @property
    def issuer(self) -> str:
        scheme = "https" if START["tls"] else "http"
        return f"{scheme}://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def answer(self, path: str, form: dict[str, str], *, post: bool) -> None:
        BOOKS["seen"][path] = BOOKS["seen"].get(path, 0) + 1
        if path in STATE["down"]:
            self.say(503, {"error": "down"})
        elif path == "/.well-known/openid-configuration":
            self.say(200, self.metadata())
        elif path == "/keys":
            self.say(200, {"keys": START["shown"]})
        elif path == "/authorize" and not post:
            self.authorize(form)
        elif path in ("/device", "/token", "/revoke") and post:
            if self.client(form):
                getattr(self, path[1:])(form)
        else:
            self.say(404, {})

    def metadata(self) -> dict[str, Any]:
        found = {
            "issuer": self.issuer,
            "jwks_uri": self.issuer + "/keys",
            "authorization_endpoint": self.issuer + "/authorize",
            "token_endpoint": self.issuer + "/token",
            "device_authorization_endpoint": self.issuer + "/device",
            "revocation_endpoint": self.issuer + "/revoke",
            "authorization_response_iss_parameter_supported": True,
        } | STATE["metadata"]
        return {name: value for name, value in found.items() if value is not None}

    def client(self, form: dict[str, str]) -> bool:
        """Whether the application is the one that is registered."""
        kind, _, text = self.headers.get("authorization", "").partition(" ")
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if kind == "Basic":
            name, _, secret = base64.b64decode(text).decode().partition(":")
            given = (name, secret)
        if given == ("tcfs-app", STATE["secret"]):
            return True
        self.say(401, {"error": "invalid_client"})
        return False

    def authorize(self, form: dict[str, str]) -> None:
        code = secrets.token_urlsafe(16)
        BOOKS["codes"][code] = form
        back = {"code": code, "state": form["state"], "iss": self.issuer} | STATE["authorization"]
        if STATE["person"] == "denies":
            back = {"error": "access_denied", "state": form["state"], "iss": self.issuer}
        query = urllib.parse.urlencode({k: v for k, v in back.items() if v is not None})
        self.send_response(302)
        self.send_header("location", f"{form['redirect_uri']}?{query}")
        self.send_header("content-length", "0")
        self.end_headers()

    def device(self, form: dict[str, str]) -> None:
        code = secrets.token_urlsafe(16)
        BOOKS["codes"][code] = form
        self.say(
            200,
            {
                "device_code": code,
                "user_code": "WDJB-MJHT",
                "verification_uri": self.issuer + "/type",
                "verification_uri_complete": self.issuer + "/type?user_code=WDJB-MJHT",
                "expires_in": STATE["expires_in"],
                "interval": STATE["interval"],
            },
        )

    def token(self, form: dict[str, str]) -> None:
        kind = form.get("grant_type")
        if kind == DEVICE_GRANT:
            if form.get("device_code") not in BOOKS["codes"]:
                self.refuse("invalid_grant")
            elif STATE["polls"]:
                said = STATE["polls"].pop(0)
                if said == 503:
                    self.say(503, {})
                else:
                    self.refuse(said)
            elif STATE["person"] == "denies":
                self.refuse("access_denied")
            else:
                self.give(BOOKS["codes"].pop(form["device_code"]))
        elif kind == "authorization_code":
            asked = BOOKS["codes"].pop(form.get("code"), None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if (
                asked is None
                or asked.get("code_challenge") != challenge
                or asked.get("code_challenge_method") != "S256"
                or asked.get("redirect_uri") != form.get("redirect_uri")
            ):
                self.refuse("invalid_grant")
            else:
                self.give(asked)
        elif kind == "refresh_token":
            asked = BOOKS["refresh"].get(form.get("refresh_token"))
            if asked is None:
                if form.get("refresh_token") in BOOKS["used"]:
                    BOOKS["refresh"].clear()  # used twice: somebody copied it
                self.refuse("invalid_grant")
                return
            if STATE["rotate"]:
                del BOOKS["refresh"][form["refresh_token"]]
                BOOKS["used"].append(form["refresh_token"])
            self.give({name: value for name, value in asked.items() if name != "nonce"})
        else:
            self.refuse("unsupported_grant_type")

    def give(self, asked: dict[str, str]) -> None:
        now = int(time.time())
        basic = {
            "iss": self.issuer,
            "aud": "tcfs-app",
            "sub": "42",
            "iat": now,
            "exp": now + STATE["lifetime"],
            "preferred_username": "anna",
            "groups_direct": ["org/team"],
            "nonce": asked.get("nonce"),
        }
        access = "opaque-" + secrets.token_urlsafe(24)
        if STATE["access_audience"]:
            access = self.signed(basic | {"aud": STATE["access_audience"], "jti": access})
        digest = hashlib.sha256(access.encode()).digest()[:16]
        half = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        id_token = self.signed(basic | {"at_hash": half} | STATE["claims"])
        if STATE["tamper"]:
            head, body, signature = id_token.split(".")
            data = json.loads(base64.urlsafe_b64decode(body + "=="))
            data["sub"] = "1"
            body = base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")
            id_token = f"{head}.{body}.{signature}"
        given = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": STATE["lifetime"],
            "scope": asked.get("scope", "openid"),
        }
        if STATE["rotate"] or not BOOKS["refresh"]:
            given["refresh_token"] = "refresh-" + secrets.token_urlsafe(24)
            BOOKS["refresh"][given["refresh_token"]] = asked
        if STATE["id_token"]:
            given["id_token"] = id_token
        BOOKS["given"].append(given)
        self.say(200, given)

    def signed(self, claims: dict[str, Any]) -> str:
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, START["key"], algorithm="RS256", headers={"kid": "k1"})

    def revoke(self, form: dict[str, str]) -> None:
        BOOKS["refresh"].pop(form.get("token"), None)
        BOOKS["revoked"].append(form.get("token"))
        self.say(200, {})

    def refuse(self, error: str) -> None:
        self.say(400, {"error": error, "error_description": "planted-description"})

    def say(self, status: int, found: Any) -> None:
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that does not trust us ends the connection


if __name__ == "__main__":
    reset()
    server = Server(("127.0.0.1", 0), Handler)
    if START["tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*START["tls"])
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print(server.server_port, flush=True)
    server.serve_forever()
