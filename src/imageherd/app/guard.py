"""Who may ask: the token, the Host header, requests from other sites, sizes, security headers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine to itself."""
MAX_BODY = 33 * 1024 * 1024
"""Bytes of a request: an image of 32 MB and what is around it."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The token is in the link that opens the page.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Let only those in who have the token, and only by a name of this server.

    The link with ``?token=`` sets a cookie and leads to the page without it; scripts send
    ``Authorization: Bearer``. A name that is not among `hosts` is refused whatever the token: a
    page elsewhere can have its own name point at this machine, and then ask as if it were the
    user. What changes something is refused where the browser says that another site asks.

    Parameters
    ----------
    app : ASGIApp
        What is guarded.
    token : str
        The secret.
    hosts : collection of str
        Names by which the server may be addressed, without ports; with "0.0.0.0" or "::" among
        them by any address in digits too.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str] = LOCAL) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {host.lower() for host in hosts}
        self._anywhere = not self._hosts.isdisjoint(("0.0.0.0", "::"))
        # Cookies know no ports: two servers on one machine must not take each other's.
        self.cookie = "imageherd-" + hashlib.sha256(self._token).hexdigest()[:12]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found.setdefault(name, value)
                found.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope, headers) or self._login(scope)
        if answer is not None:
            await answer(scope, receive, sending)
            return
        await self._app(scope, _capped(receive), sending)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._goes_by(_name_of(host)):
            return _problem(400, "This server does not go by that name; use the link it printed.")
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        login = scope["path"] == "/" and any(map(self._is_token, given))
        if not login and not self._known(headers):
            said = "Open the link that imageherd printed: it holds the token."
            # At the door stands a person.
            return PlainTextResponse(said, 401) if scope["path"] == "/" else _problem(401, said)
        if scope["method"] not in ("GET", "HEAD") and not _own_site(headers, host):
            return _problem(403, "Another site asked for this in your name; it was not done.")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return _problem(400, "The Content-Length of the request is no number.")
        return _problem(413, _TOO_LARGE) if int(length) > MAX_BODY else None

    def _goes_by(self, name: str) -> bool:
        # Any name can be made to point here; an address in digits cannot.
        return name in self._hosts or (self._anywhere and _is_address(name))

    def _login(self, scope: Scope) -> Response | None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] != "/" or not any(map(self._is_token, given)):
            return None
        answer = RedirectResponse("/", 303)
        value = self._token.decode()
        # "strict" would keep it back where the link is on another site's page, such as a notebook's
        # or a web mail's; what changes something is refused from there whatever the cookie.
        answer.set_cookie(self.cookie, value, path="/", httponly=True, samesite="lax")
        return answer

    def _known(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(token.strip())
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self.cookie in cookies and self._is_token(cookies[self.cookie].value)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)


_TOO_LARGE = f"The request is too large; at most {MAX_BODY // 2**20} MB are taken."


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _own_site(headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == host
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _problem(status: int, text: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"detail": text}, status, headers)


def _capped(receive: Receive) -> Receive:
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return receiving
