"""Requests that are wrong in every way that a seeded generator thinks of."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

# What each line of a request is made of. Most of it is wrong, some of it is right: only who gets
# past one check meets the next.

METHODS = ["GET"] * 6 + ["POST"] * 8 + ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
ODD_METHODS = ["", "get", "G ET", "GET\t", "P\0ST", "POST" * 30, "\u00c9", "PRI", "GET\r", "$"]
SERVER_PATHS = """
/ /build /build/1 /build/1/output /build/1/stdout /build/1/stderr /build/1/live /build/1/cancel
/build/1/rebuild /agents /agents/forget /api/builds /api/builds/1 /api/agents /healthz
/static/style.css /static/minici.js /notify_agent /notify_build_result /notify_build_returned
/notify_build_output
""".split()
AGENT_PATHS = ["/build", "/ping", "/cancel"]
ODD_TARGETS = """
// /. /.. /../../etc/passwd /static/../server.py /static/%2e%2e%2fserver.py /static/..;/x /build/007
/build/0 /build/-1 /build/1_0 /build/%D9%A1 /build/%00 /build/1%0a /build/1/output/ /build/1/../1
/%ff%fe /% /%zz /%u0041 ? # * http:// http:/// http://localhost http://localhost/healthz
http://evil.example/ http://localhost@evil.example/ HTTP://localhost/ file:///etc/passwd
javascript:alert(1) localhost:80 [::1] /build/99999999999999999999999999999999 /\\..\\x /;a=b /a|b
""".split()
VERSIONS = ["HTTP/1.1"] * 12 + ["HTTP/1.0"]
ODD_VERSIONS = [
    "",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1.1 ",
    "HTTP/1.1.1",
    "HTTP/x",
    "http/1.1",
    "HTTP/1.",
]
NUMBERS = """
0 1 2 -1 +1 1_0 01 1.5 1e9 0x10 9999999999999999999999 NaN inf \u0661 37,37 1;2 18446744073709551616
""".split()
NAMES = """
id attempt status stdout stderr stdout_offset stderr_offset offset stream seconds timeline reason
revision subject author host port name slots running scheme commit command repository timeout
output_limit url before after limit text at place superseded address v unknown
""".split()
TEXTS = [
    "",
    "\0",
    "\r\nX: y",
    "a b",
    "x" * 5000,
    "\u202e",
    "<script>",
    "%",
    "{}",
    "1,2,x",
    "o 1 1\n",
]
VALUES = [
    *TEXTS,
    "-x",
    "--upload-pack=touch X",
    "ext::sh",
    "../..",
    "stdout",
    "[::1]",
    "main",
    "HEAD",
]
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
HEADERS = {
    "Content-Length": [*NUMBERS, "", " 5", "5 5", "5\t"],
    "Transfer-Encoding": ["chunked", "identity", "gzip, chunked", "xchunked", "\x0bchunked", ""],
    "Content-Type": [FORM, JSON, "text/plain", "multipart/form-data", ";", ""],
    "Host": [
        "",
        "evil.example",
        "localhost",
        "[::1",
        "::1",
        "a b",
        "localhost:x",
        "\u00e9",
        "[]:1",
    ],
    "Origin": ["null", "https://evil.example", "http://localhost", "http://", "://", "\u00e9"],
    "Sec-Fetch-Site": ["cross-site", "same-origin", "none", "?"],
    "Authorization": ["Bearer", "Bearer x", "Basic", "Basic !!!", "Basic YTpi", "Basic /w=="],
    "Range": ["bytes=0-", "bytes=-1", "bytes=9-1", "bytes=0-0,2-3", "bytes=x", "bytes=9999999999-"],
    "If-Range": ["x"],
    "Last-Event-ID": ["1-0-0", "9-9-9", "-1", "1-99999999999999999999-0", "\u0661-0-0"],
    "Accept-Language": ["ru;q=x", ",;=,", "en;q=9" * 50, "*", "\u00e9"],
    "Accept": ["application/json", "text/html", "*/*", ""],
    "Expect": ["100-continue", "200-ok"],
    "Connection": ["close", "keep-alive", "upgrade", "close, x", ""],
    "Upgrade": ["websocket", "h2c"],
    "X": ["y" * 3000, "\x01", "\x7f", "a\rb", "\x00", "\u00ff"],
}
ODD_LINES = (
    """
no colon|: no name| folded: x|a b: c|Content-Length : 5|\0: x|Host|\t|Transfer-Encoding\x0b: chunked
""".strip("\n").split("|")
    + ["X:" * 90, "a" * 9000 + ": x", "\u00e9: x"]
)
BITS = [b"\r", b"\n", b"\r\n\r\n", b"\0", b" ", b":", b"\xff", b"%", b"\x80" * 3, b"A" * 300, b"-"]


class Requests:
    """Requests by chance, but always the same by the same seed."""

    def __init__(self, seed: int, paths: list[str], secret: str) -> None:
        self._random = random.Random(seed)
        self._paths = paths
        self._secret = secret
        self._kinds = [self._noise, self._composed, self._composed, self._composed, self._mutated]

    def __iter__(self) -> Iterator[bytes]:
        while True:
            request = self._one()
            if self._chance(0.1):  # more of them behind it
                request += self._one() + self._one()
            yield request

    def _one(self) -> bytes:
        return self._random.choice(self._kinds)()

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _noise(self) -> bytes:
        noise = self._random.randbytes(self._random.choice([0, 1, 9, 200, 3000]))
        return noise + self._random.choice([b"", b"\n", b"\r\n\r\n"])

    def _mutated(self) -> bytes:
        """A composed one, with bytes lost, doubled and put in."""
        data = bytearray(self._composed())
        for _ in range(self._random.randint(1, 6)):
            place = self._random.randrange(len(data) + 1)
            how = self._random.randrange(4)
            if how == 0:
                del data[place : place + self._random.randint(1, 30)]
            elif how == 1:
                data[place:place] = data[place : place + self._random.randint(1, 60)]
            elif how == 2:
                data[place:place] = self._random.choice(BITS)
            else:
                del data[place:]
        return bytes(data)

    def _composed(self) -> bytes:
        body, kind = self._body()
        lines = [self._line()]
        if not self._chance(0.05):
            lines.append(b"Host: localhost")
        if self._chance(0.5):
            lines.append(b"Authorization: Bearer " + self._secret.encode())
        if body and not self._chance(0.1):
            off = self._random.choice([0] * 20 + [5, -5, 10**9])
            lines.append(b"Content-Length: %d" % (len(body) + off))
        if body:
            lines.append(b"Content-Type: " + kind)
        for _ in range(self._random.choice([0, 0, 1, 2, 3, 120])):
            lines.append(self._header())
        lines += [b"X-Many: " + b"y" * 500] * self._random.choice([0] * 30 + [99, 150])
        end = b"\n" if self._chance(0.1) else b"\r\n"
        return end.join([*lines, b"", body])

    def _line(self) -> bytes:
        method = self._random.choice(ODD_METHODS if self._chance(0.05) else METHODS)
        version = self._random.choice(ODD_VERSIONS if self._chance(0.1) else VERSIONS)
        target = self._random.choice(ODD_TARGETS if self._chance(0.3) else self._paths)
        if self._chance(0.3):
            target += "?" + self._form().decode("latin-1")
        if self._chance(0.02):
            target += "/" + "a" * 9000
        return f"{method} {target} {version}".encode("utf-8", "replace")

    def _header(self) -> bytes:
        if self._chance(0.1):
            return self._random.choice(ODD_LINES).encode()
        name, values = self._random.choice(list(HEADERS.items()))
        return f"{name}: {self._random.choice(values)}".encode()

    def _body(self) -> tuple[bytes, bytes]:
        how = self._random.randrange(6)
        if how == 0:
            return b"", b""
        if how == 1:
            return self._json(), b"application/json"
        if how == 2:
            return self._random.randbytes(self._random.choice([1, 100, 5000])), b"image/png"
        return self._form(), b"application/x-www-form-urlencoded"

    def _form(self) -> bytes:
        fields = []
        for _ in range(self._random.choice([0, 1, 3, 5, 150])):
            text = self._value().encode("utf-8", "replace")
            value = quote_from_bytes(text) if self._chance(0.8) else text.decode("latin-1")
            fields.append(f"{self._random.choice(NAMES)}={value}")
        return "&".join(fields).encode("latin-1", "replace")

    def _json(self) -> bytes:
        deep = b"[" * self._random.choice([1, 100, 50_000])
        whole = {self._random.choice(NAMES): self._random.choice([*VALUES, 1, None, [], {}, 1.5])}
        texts = [b"{", b"[]", b"null", b"\xff", b'{"id": 1e999}', deep, b'{"a": "\\ud800"}']
        return self._random.choice([*texts, *[json.dumps(whole).encode()] * 5])

    def _value(self) -> str:
        return self._random.choice(NUMBERS if self._chance(0.5) else VALUES)
