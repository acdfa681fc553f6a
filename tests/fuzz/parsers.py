"""Check that parsers of foreign bytes answer or refuse: no other exception, and no more than a second.

    python -m tests.fuzz.parsers --count 20000 --seed 1          # inputs per parser
    python -m tests.fuzz.parsers --count 100000 --only range

``PARSERS`` are called directly, ``REQUESTS`` are sent to a server as bytes. ``ELSEWHERE`` names the fuzz of
the other parsers.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import gzip
import importlib
import io
import json
import random
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import httpx
from starlette.requests import Request  # noqa: TID253 - parsers of the server take it

from maas_client import _settings
from maas_client._local_server.record import parse_record
from maas_client._transport import auth, clouds
from maas_client._transport.http import HttpRequest, ResponseReader
from maas_client.catalog import load as catalog
from maas_client.dataset import validate
from maas_client.errors import MaasError
from maas_client.local.embedded_server import serve
from maas_client.local.export import import_model
from maas_client.local.fault_plan import FaultPlan
from maas_client.local.http import app, parameters, proxy, sas, security
from maas_client.local.http.routes import blob, download, mlflow
from maas_client.local.resources import blobs
from maas_client.local.resources.errors import ApiError
from maas_client.wire import azureml, error_bodies, foundry
from maas_client.wire.parsing import parse_retry_after
from tests.contract.server.conftest import PLAIN_HTTP

SLOW_S = 1.0
"""Processor time allowed for one input."""
_SECRET = b"s" * 32
_FOLDER = Path(tempfile.mkdtemp(prefix="maas-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


class Parser(NamedTuple):
    """A function that reads foreign bytes, and inputs to begin with."""

    call: Callable[[bytes], object]
    seeds: Sequence[bytes]
    refusals: tuple[type[Exception], ...] = (ApiError, MaasError)


def _text(call: Callable[[str], object]) -> Callable[[bytes], object]:
    """Return a call with a header's or a query's text."""
    return lambda data: call(data.decode("latin-1"))


def _request(data: bytes, name: bytes, method: str = "GET") -> Request:
    scope = {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": []}
    scope["headers"] = [(name, data)]  # type: ignore[dict-item] # a scope has many types
    return Request(scope)


def _read_json(data: bytes) -> object:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data}

    request = Request({"type": "http", "method": "PUT", "headers": []}, receive)
    return asyncio.run(app.read_json(request))


def _check_sas(text: str) -> object:
    query = dict(parse_qsl(text))
    return sas.check_sas(
        _SECRET, "c", query, scheme="http", client_host="127.0.0.1", accepts_account_keys=True
    )


def _check_versions(text: str) -> None:
    for op in (azureml.JOB_GET, foundry.JOB_GET):
        parameters.check_api_version(op, {"api-version": text})


def _filter(text: str) -> None:
    values: dict[str, Any] = {"tag": "a" * 300, "metric": 0.5, "attribute": "b"}
    for clause in mlflow._parse_filter(text):
        group, key = mlflow._split_key(clause, mlflow._RUN_ATTRIBUTES)
        mlflow._matches(lambda group, key: values.get(group), group, key, clause)


def _decode_response(data: bytes) -> None:
    encoding, _, body = data.partition(b"\n")
    head, _, length = encoding.partition(b" ")
    request = HttpRequest("GET", "http://x/", {}, None, None, time.monotonic() + 60, 1 << 20)
    response = httpx.Response(200, stream=httpx.ByteStream(b""))
    response.headers = httpx.Headers([(b"content-encoding", head), (b"content-length", length)])
    reader = ResponseReader(request, response)
    for piece in (body[:20], body[20:]):
        assert sum(map(len, reader.decode(piece))) <= 1 << 20
    list(reader.decode(None))


def _file(name: str, call: Callable[[Path], object]) -> Callable[[bytes], object]:
    path = _FOLDER / name

    def run(data: bytes) -> object:
        path.write_bytes(data)
        return call(path)

    return run


def _import_checks(path: Path) -> None:
    import_model._check_json(path.parent, path.name)
    import_model._check_manifest(path.parent, [])


def _safetensors(path: Path) -> None:
    import_model._check_finite(path.parent)


def check_safetensors(count: int, seed: int) -> None:
    """Check the parser of weights, which needs torch."""
    importlib.import_module("torch")  # takes longer than an input may
    (_FOLDER / "weights").mkdir(exist_ok=True)
    check("safetensors", SAFETENSORS, count, seed)


_TENSOR = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
_ROWS = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n' * 20
_SAS = sas.make_sas(_SECRET, "c", 1)
_TOKEN = security.issue_token(_SECRET, "t", "c", "a").encode()

PARSERS: dict[str, Parser] = {
    "block_list": Parser(
        blob._parse_block_list,
        [b'<?xml version="1.0"?><BlockList><Latest>YQ==</Latest></BlockList>', b"<BlockList/>"],
    ),
    "block_id": Parser(_text(blobs._check_block_id), [b"YQ==", b"QUFBQUFB"]),
    "sas": Parser(
        _text(_check_sas),
        [
            _SAS.encode(),
            b"sv=2024&sp=r&se=2099-01-01T00:00:00Z&sr=c&sig=" + b"A" * 43 + b"%3D",
            b"sv=2024&sp=r&st=0001-01-01T00:00:00%2B23:59&se=9999-12-31T23:59:59-23:59&sip=1.2.3.4-::1&sig="
            + b"A" * 43
            + b"%3D",
        ],
    ),
    "range": Parser(
        lambda data: download._requested_range(_request(data, b"range"), 1000),
        [b"bytes=0-9", b"bytes=5-", b"bytes=-5", b"bytes=0-1,5-6"],
    ),
    "etags": Parser(_text(blobs.parse_etags), [b'"0x8D", W/"a"', b"*"]),
    "dates": Parser(
        _text(lambda text: blobs.parse_date("If-Modified-Since", text)),
        [b"Sun, 29 Nov 2026 12:00:00 GMT", b"29 Nov 26 12:00 +0100"],
    ),
    "retry_after": Parser(
        _text(lambda text: parse_retry_after({"retry-after": text, "retry-after-ms": text})),
        [b"5", b"0.5", b"Sun, 29 Nov 2026 12:00:00 GMT"],
    ),
    "api_version": Parser(_text(_check_versions), [b"2024-10-01-preview", b"v1", b"preview"]),
    "mlflow_filter": Parser(
        _text(_filter),
        [b"tags.a LIKE '%a%a%b' AND metrics.`m` >= 1e3", b'name ILIKE "_b%"', b"metric.x > -.5"],
    ),
    "mlflow_order": Parser(
        _text(lambda text: mlflow._ORDER.fullmatch(text)), [b"metrics.loss DESC", b"`a b` asc"]
    ),
    "connect_target": Parser(
        proxy._azure_host,
        [
            b"CONNECT management.azure.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT a.eastus2.models.ai.azure.com:443 HTTP/1.0\r\n\r\n",
        ],
    ),
    "json_body": Parser(_read_json, [b'{"properties":{"a":[1,2.5,null,"x"]}}', b"{}"]),
    "access_token": Parser(
        _text(lambda text: security.is_valid_token(_SECRET, text)), [_TOKEN, b"a.b.c"]
    ),
    "claims": Parser(_text(auth.parse_claims), [b'Bearer claims="eyJhIjoxfQ", error="x"']),
    "error_body": Parser(
        lambda data: error_bodies.parse_error(data, {"content-type": "application/json"}),
        [
            b'{"error":{"code":"a","message":"b","details":[]}}',
            b"<?xml version='1.0'?><Error><Code>a</Code><Message>b</Message></Error>",
        ],
    ),
    "compressed_response": Parser(
        _decode_response,
        [
            b"gzip 30\n" + gzip.compress(b"{}" * 20, mtime=0),
            b"identity 2\n{}",
            b"deflate\n" + gzip.compress(b"x" * (2 << 20), mtime=0),
        ],
    ),
    "cloud_metadata": Parser(
        lambda data: clouds.from_metadata(json.loads(data)),
        [
            json.dumps(
                {
                    "name": "c",
                    "authentication": {
                        "loginEndpoint": "https://l.example",
                        "audiences": ["https://a.example"],
                    },
                    "resourceManager": "https://a.example",
                    "suffixes": {"storage": "s.example"},
                }
            ).encode()
        ],
        (MaasError, ValueError, RecursionError),  # fetch_cloud translates those of JSON
    ),
    "server_record": Parser(
        parse_record, [b'{"url":"http://127.0.0.1:1","pid":5,"engine":"instant","api_key":"k"}']
    ),
    "fault_plan": Parser(
        lambda data: FaultPlan.from_json(data.decode("utf-8", "replace")),
        [
            b'[{"method":"PUT","path":"/jobs/","status":503,"headers":{"Retry-After":"0"},"times":null}]',
            b'[{"flip_bit":0.5,"skip":1,"probability":0.1,"stall_s":1}]',
        ],
    ),
    "config_toml": Parser(
        _file("config.toml", lambda p: _settings.read_profiles({"MAAS_CONFIG_FILE": str(p)})),
        [b'profile = "a"\n[profiles.a]\nbackend = "local"\ntimeout = 5\n'],
    ),
    "catalog_override": Parser(
        _file("catalog.json", catalog._parse), [b'{"models":{"Phi-4":{"version":"9"}}}']
    ),
    "adapter_config": Parser(
        _file("adapter_config.json", _import_checks),
        [b'{"r":8,"lora_alpha":16,"auto_mapping":null}'],
    ),
    "tokenizer_files": Parser(
        _file("tokenizer.json", _import_checks), [b'{"model":{"type":"BPE","vocab":{"a":0}}}']
    ),
    "compressed_rows": Parser(
        _file("rows.jsonl.gz", lambda p: validate(p, target="azureml")),
        [gzip.compress(_ROWS, mtime=0), gzip.compress(b"", mtime=0)],
    ),
}

SAFETENSORS = Parser(
    _file("weights/model.safetensors", _safetensors),
    [len(_TENSOR).to_bytes(8, "little") + _TENSOR + bytes(8)],
)

_LF = "\r\n"


def _http(head: str, body: str = "") -> bytes:
    return (head.replace("\n", _LF) + _LF * 2 + body).encode("latin-1")


_FORM = (
    '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    '--b\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n1209600\r\n'
    '--b\r\nContent-Disposition: form-data; name="expires_after[anchor]"\r\n\r\ncreated_at\r\n'
    '--b\r\nContent-Disposition: form-data; name="file"; filename="t.jsonl"\r\n\r\n{"a":1}\r\n--b--\r\n'
)
REQUESTS: dict[str, Sequence[bytes]] = {
    "multipart": [
        _http(
            "POST /openai/v1/files HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer x\nContent-Type: "
            f"multipart/form-data; boundary=b\nContent-Length: {len(_FORM)}",
            _FORM,
        )
    ],
    "chunked_body": [
        _http(
            "PUT /maaslocal/c/b HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer x\n"
            "x-ms-blob-type: BlockBlob\nTransfer-Encoding: chunked",
            "5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
        )
    ],
    "headers": [
        _http(
            "GET /openai/v1/models?after=x HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer x\n"
            'Cookie: a=b; $Version=1; c="d\nRange: bytes=0-5\nIf-None-Match: *\nExpect: 100-continue\n'
            "Content-Encoding: gzip"
        )
    ],
}
"""Complete requests, which are changed and sent as bytes. The server reads cookies nowhere."""

ELSEWHERE = {
    "JSON Lines": "tests/fuzz/robustness.py, agreement.py",
    "row formats": "tests/fuzz/conversion.py",
    "JSON bodies, queries and headers of each route": "tests/contract/server/routes/test_robustness.py",
    "schemas of chats": "tests/unit/chat/test_output_schema.py",
    "answers of models": "tests/unit/chat/test_parsing.py",
    "responses of services": "tests/contract/client/test_wrong_typed_responses.py",
}
_TOKENS = (
    b"\x00", b"\xff", b"\xc3\xa9", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"-1", b"1e999", b"NaN", b"null",
    b"true", b'"', b"'", b"%", b"%a" * 20, b"_", b"\\", b"\r\n", b"\n", b"&", b"=", b"=" * 40, b";", b",",
    b"..", b"\\ud800", b"<!ENTITY x '&x;'>", b"<", b"\xc2\xb2", b" " * 3000, b"{}", b"[]",
    b"+99999999999999999999",
)  # fmt: skip
_NUMBER = re.compile(rb"\d+")


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the inputs with up to four changes."""
    data = rng.choice(seeds)
    for _ in range(rng.randrange(5)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 0, 1, 2, 8, 40)))
        kind = rng.randrange(6)
        if kind == 0:
            piece = rng.choice(_TOKENS)
        elif kind == 1:
            piece = rng.randbytes(rng.randrange(1, 5))
        elif kind == 2:
            piece = data[start:end] * rng.choice((2, 3, 50))
        elif kind == 3 and (numbers := list(_NUMBER.finditer(data))):
            start, end = rng.choice(numbers).span()
            piece = rng.choice((b"0", b"99999999999", b"9" * 5000, b"-1", b"1e400", b"\xc2\xb2"))
        elif kind == 4:
            piece = bytes(b ^ (1 << rng.randrange(8)) for b in data[start:end])
        else:
            piece = b""
        data = data[:start] + piece + data[end:]
    return data


def check(name: str, parser: Parser, count: int, seed: int) -> None:
    """Call a parser with ``count`` inputs. Raises for one that it neither reads nor refuses."""
    rng = random.Random(f"{name} {seed}")
    for number in range(count):
        data = parser.seeds[number] if number < len(parser.seeds) else mutate(rng, parser.seeds)
        start = time.process_time()
        try:
            parser.call(data)
        except parser.refusals:
            pass
        except BaseException as error:
            error.add_note(f"{name}: {data[:500]!r} ({len(data)} bytes)")
            raise
        duration = time.process_time() - start
        assert duration < SLOW_S, f"{name}: {duration:.1f} s for {data[:500]!r}"


def check_requests(names: Iterable[str], count: int, seed: int) -> None:
    """Send changed requests to a server. Raises for a 500, or a server that does not answer afterwards."""
    with serve(engine="instant") as server:
        port = int(server.url.rsplit(":", 1)[1])
        for name in names:
            rng = random.Random(f"{name} {seed}")
            for _ in range(count):
                data = mutate(rng, [s.replace(b"127.0.0.1", f"127.0.0.1:{port}".encode())
                                    for s in REQUESTS[name]])  # fmt: skip
                answer = _exchange(port, data)
                status = re.match(rb"HTTP/1.1 (\d+)", answer)
                is_right = not answer or (status and (int(status[1]) < 500 or status[1] == b"501"))
                assert is_right, f"{name}: {data!r}: {answer[:200]!r}"
        url = f"{server.url}/discovery"
        assert httpx.get(url, **PLAIN_HTTP).status_code == 200, "the server still answers"


def _exchange(port: int, data: bytes) -> bytes:
    """Send bytes, end the stream, and return the start of the answer."""
    out = io.BytesIO()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(4096):
                out.write(piece)
        except ConnectionError:
            pass
    return out.getvalue()


def main() -> None:
    """Check the parsers of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*PARSERS, *REQUESTS, "safetensors"])
    args = parser.parse_args()
    for name, each in PARSERS.items():
        if args.only in (None, name):
            check(name, each, args.count, args.seed)
            print(f"{name}: {args.count} inputs")
    if args.only in (None, "safetensors"):
        check_safetensors(args.count, args.seed)
        print(f"safetensors: {args.count} inputs")
    names = [name for name in REQUESTS if args.only in (None, name)]
    check_requests(names, args.count // 10, args.seed)
    print(f"{', '.join(names) or 'no requests'}: {args.count // 10} requests each")


if __name__ == "__main__":
    main()
