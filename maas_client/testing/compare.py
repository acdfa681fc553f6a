"""Record what Azure answers, without secrets, and report where the local server answers something else.

Record with a client of this library, or OpenAI's, that uses the recorder's HTTP client::

    with Recorder("azure.json") as recorder:
        client = maas.Client.azureml(..., http=recorder.client())
        client.fine_tune("train.jsonl", "Phi-4-mini-instruct", deploy="tickets")

Compare with ``python -m maas_client.testing.compare azure.json``: the requests are sent to a local server, in
order, and status, fields and types of its answers are compared with the recorded ones.

A cassette contains no text that is not a word of the protocol: names, ids, keys, tokens, signatures and chats
are replaced by ``x-1``, ``x-2`` and so on, each text by the same one everywhere. Uploaded bytes are not
recorded; the comparison uploads twelve chats of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlencode

import httpx

from maas_client import catalog
from maas_client.errors import ConfigError, MaasError
from maas_client.wire import azureml, blob, chat, foundry, permissions
from maas_client.wire.statuses import is_final

_VERSION = 1
_RECORD_HINT = "Record it with maas_client.testing.compare.Recorder."
_TABLES = (
    *(*azureml.OPERATIONS, *blob.OPERATIONS, *blob.CONTAINER_OPERATIONS, *chat.OPERATIONS),
    *(*foundry.OPERATIONS, *foundry.DATED_OPERATIONS, *foundry.ARM_OPERATIONS),
    *(*foundry.INFERENCE_OPERATIONS, *permissions.WORKSPACE_OPERATIONS),
    *permissions.ACCOUNT_OPERATIONS,
)
_PROTOCOL_WORDS = """
    http https azureml azureml-models locations registries models labels versions latest datastores paths
    LocalUpload workspaceblobstore data uri_file mlflow_model custom_model FineTuning Custom AzureOpenAI
    ChatCompletion TextCompletion registered_model Consumption Key fine-tune fine-tune-results user assistant
    system tool developer function text supervised dpo auto Standard GlobalStandard DataZoneStandard Developer
    DeveloperTier standard globalStandard developerTier OpenAI Microsoft list file fine_tuning.job
    fine_tuning.job.event fine_tuning.job.checkpoint chat.completion chat.completion.chunk model processed
    pending uploaded stop length tool_calls null true false Sas AccountKey AzureBlob serverless jobs openai v1
    message metrics info warn error Succeeded Failed Creating Running Queued Completed Canceled NotStarted
    Starting Preparing Finalizing CancelRequested InProgress Online Unhealthy Enabled Disabled block
    blocklist BlockBlob public ReadOnlyMount ReadWriteMount
"""
_TOKEN = re.compile(r"[^/?&=:;,@#()\[\]{}|\s'\"]+")
_SAFE_TOKEN = re.compile(r"\d{1,6}|\d{4}-\d{2}-\d{2}(-[a-z]+)?|Microsoft\.\w+|x-\d+", re.IGNORECASE)
_QUERY_NAMES = {"api-version", "comp", "restype", "limit", "after", "order", "$top", "blockid"}
_REQUEST_HEADERS = ("content-type", "x-ms-blob-type")
_HIDDEN_FIELDS = frozenset(
    {"content", "arguments", "message", "messages_text", "description", "displayname", "key", "primarykey",
     "secondarykey", "key1", "key2", "sastoken", "access_token", "credential", "secret", "delta"}
)  # fmt: skip
"""Fields whose texts are replaced as a whole, in lower case."""
_FREE_MAPS = frozenset(
    {"tags", "metadata", "logFiles", "parameters", "hyperParameters", "endpoints"}
)
"""Objects whose keys the user chooses: they are replaced too, and not compared."""
_FIELD_NAME = re.compile(r"[A-Za-z_@$][\w.@$-]{0,60}")
_BLOCK_LIST = re.compile(
    r"(<\?xml[^>]*\?>)?\s*<BlockList>(\s*<Latest>[\w+/=]+</Latest>\s*)*</BlockList>\s*"
)
_PLACEHOLDER = re.compile(r"(?<![\w-])x-\d+(?![\w-])")
_AZURE_HOSTS = (
    "management.azure.com", "blob.core.windows.net", "api.azureml.ms", "models.ai.azure.com",
    "openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com",
)  # fmt: skip
_RESPONSE_HEADERS = ("retry-after", "location", "azure-asyncoperation", "etag")
_DURATION_S = 1000.0
"""How long jobs and deployments take on the local server: until the recorded ones have ended."""


@cache
def _vocabulary() -> frozenset[str]:
    """Return the words that a cassette may contain, in lower case."""
    words = set(_PROTOCOL_WORDS.split())
    for op in _TABLES:
        words.update(part for part in op.path.split("/") if part and "{" not in part)
        words.update(op.query.values())
    for info in catalog.load_models(None).values():
        words.update((info.name, info.registry or info.name))
    return frozenset(word.lower() for word in words)


class Scrubber:
    """Replaces every text that is no word of the protocol, each by the same placeholder everywhere."""

    def __init__(self) -> None:
        self._placeholders: dict[str, str] = {}

    def _replace(self, text: str) -> str:
        return self._placeholders.setdefault(text.casefold(), f"x-{len(self._placeholders) + 1}")

    def text(self, text: str) -> str:
        """Return a text in which only words of the protocol are left.

        Args:
            text: A value of a body, or a part of an address.

        Returns:
            The text with placeholders.
        """
        if re.search(r"\s", text):
            return self._replace(text)
        return _TOKEN.sub(lambda match: self._token(match[0]), text)

    def _token(self, token: str) -> str:
        if token.lower() in _vocabulary() or _SAFE_TOKEN.fullmatch(token):
            return token
        for host in _AZURE_HOSTS:
            if token.lower() == host:
                return host
            if token.lower().endswith(f".{host}"):
                labels = token[: -len(host) - 1].split(".")
                return ".".join([*map(self._replace, labels), host])
        return self._replace(token)

    def value(self, value: Any, field: str = "") -> Any:
        """Return a JSON value with placeholders. Names of fields stay; numbers and booleans stay.

        Args:
            value: The value.
            field: The name of the field that it belongs to.

        Returns:
            The value without texts that are no words of the protocol.
        """
        if isinstance(value, dict):
            return {self._field(name, field): self.value(v, name) for name, v in value.items()}
        if isinstance(value, list):
            return [self.value(item, field) for item in value]
        if isinstance(value, str) and value:
            if field.lower() in _HIDDEN_FIELDS:
                return self._replace(value)
            return self.text(value)
        return value

    def _field(self, name: str, parent: str) -> str:
        is_known = _FIELD_NAME.fullmatch(name) and parent not in _FREE_MAPS - {"hyperParameters"}
        return name if is_known else self._replace(name)


class Recorder:
    """Records the requests of HTTP clients and their answers into a cassette, without secrets.

    Args:
        path: The file to write when the ``with`` block ends.

    Example:
        >>> with Recorder("azure.json") as recorder:
        ...     client = maas.Client.azureml(workspace="tickets", http=recorder.client())
        ...     print(list(client.jobs.list()))
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._scrubber = Scrubber()
        self._exchanges: list[dict[str, Any]] = []
        self._clients: list[httpx.Client] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.close()
        cassette = {"version": _VERSION, "exchanges": self._exchanges}
        self._path.write_text(json.dumps(cassette, indent=1) + "\n", "utf-8")

    def client(self, **options: Any) -> httpx.Client:
        """Return an HTTP client whose exchanges are recorded, for ``http=`` or OpenAI's ``http_client=``.

        Args:
            **options: Options of ``httpx.Client``, such as ``verify``.

        Returns:
            The client. It is closed when the ``with`` block ends.
        """

        def record(response: httpx.Response) -> None:
            if not _is_stream(response):
                response.read()
            self._record(response)

        client = httpx.Client(event_hooks={"response": [record]}, **options)
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> httpx.AsyncClient:
        """Return an asynchronous HTTP client whose exchanges are recorded. Close it yourself.

        Args:
            **options: Options of ``httpx.AsyncClient``, such as ``verify``.

        Returns:
            The client.
        """

        async def record(response: httpx.Response) -> None:
            if not _is_stream(response):
                await response.aread()
            self._record(response)

        return httpx.AsyncClient(event_hooks={"response": [record]}, **options)

    def _record(self, response: httpx.Response) -> None:
        request, scrub = response.request, self._scrubber
        path = "/".join(scrub.text(unquote(part)) for part in request.url.path.split("/"))
        query = {
            name: value if name.lower() in ("api-version", "blockid", "comp") else scrub.text(value)
            for name, value in parse_qsl(request.url.query.decode(), keep_blank_values=True)
            if name.lower() in _QUERY_NAMES
        }
        headers = {k: request.headers[k] for k in _REQUEST_HEADERS if k in request.headers}
        if "content-type" in headers:
            headers["content-type"] = headers["content-type"].partition(";")[0]
        self._exchanges.append(
            {
                "method": request.method,
                "url": f"https://{scrub.text(request.url.host)}{path}",
                "query": query,
                "headers": headers,
                "body": self._body(request, query),
                "status": response.status_code,
                "content_type": response.headers.get("content-type", "").partition(";")[0],
                "response_headers": {
                    k: scrub.text(response.headers[k])
                    for k in _RESPONSE_HEADERS
                    if k in response.headers
                },
                "response": None if _is_stream(response) else scrub.value(_json(response.content)),
            }
        )

    def _body(self, request: httpx.Request, query: dict[str, str]) -> Any:
        """Return the body as JSON; of others only their kind: ``bytes``, ``form`` or a list of blocks."""
        try:
            content = request.content
        except httpx.RequestNotRead:
            content = b"?"
        if "multipart" in request.headers.get("content-type", ""):
            return {"kind": "form"}
        text = content.decode("utf-8", "replace")
        if query.get("comp") == "blocklist" and _BLOCK_LIST.fullmatch(text):
            return {"kind": "blocks", "text": text}
        value = _json(content) if "json" in request.headers.get("content-type", "") else None
        if value is not None:
            return {"kind": "json", "value": self._scrubber.value(value)}
        return {"kind": "bytes"} if content else None


def _is_stream(response: httpx.Response) -> bool:
    return "event-stream" in response.headers.get("content-type", "")


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def compare(path: str | Path) -> list[str]:
    """Send the requests of a cassette to a local server, and describe where its answers differ.

    Args:
        path: The cassette.

    Returns:
        One line for each difference in status, content type, headers, fields or types; empty if there is none.

    Raises:
        ConfigError: The file cannot be read, or is no cassette.
        MissingExtraError: The package of the local server is not installed.

    Example:
        >>> compare("azure.json")
        ['3 PUT …/jobs/x-9 (jobs.create): status 201 on Azure, 200 here']
    """
    exchanges = _read(Path(path))
    from maas_client.local.embedded_server import serve

    with serve(engine="instant", control=True, proxy=True) as server:
        import ssl

        environment = server.environment
        context = ssl.create_default_context(cafile=environment["SSL_CERT_FILE"])
        with httpx.Client(
            proxy=environment["HTTPS_PROXY"], verify=context, trust_env=False
        ) as client:
            return list(_replay(client, server.control, exchanges))


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        cassette = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the cassette {path} cannot be read: {error.strerror}", hint="Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the cassette {path} is not JSON: {error}", hint=_RECORD_HINT) from None
    needed = {"method", "url", "query", "headers", "body", "status", "content_type"}
    needed |= {"response_headers", "response"}
    exchanges = cassette.get("exchanges") if isinstance(cassette, dict) else None
    if not isinstance(exchanges, list) or not all(
        isinstance(e, dict) and needed <= set(e) for e in exchanges
    ):
        raise ConfigError(f"{path} is no cassette", hint=_RECORD_HINT)
    if cassette.get("version") != _VERSION:
        raise ConfigError(
            f"the cassette {path} has another version than {_VERSION}", hint=_RECORD_HINT
        )
    return exchanges


def _replay(client: httpx.Client, control: Any, exchanges: list[dict[str, Any]]) -> Iterator[str]:
    values: dict[str, str] = {}
    control.next_job(running_s=_DURATION_S, count=len(exchanges) or 1)
    control.next_deployment(creating_s=_DURATION_S, count=len(exchanges) or 1)

    def restore(text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: values.get(match[0], match[0]), text)

    for number, exchange in enumerate(exchanges, 1):
        method, url = exchange["method"], exchange["url"]
        if method == "GET" and _has_ended(exchange["response"]):
            control.advance(2 * _DURATION_S)
        answer = client.request(
            method,
            restore(url),
            params=restore(urlencode(exchange["query"], safe="$")) or None,
            headers={**_headers(exchange), "authorization": f"Bearer {_token(client)}"},
            **_content(exchange["body"], restore),
        )
        name = next(
            (r.operation for r in reversed(control.requests) if r.operation != "login.token"), ""
        )
        label = f"{number} {method} {re.sub('^https://[^/]*', '', url)[-60:]} ({name or 'unknown'})"
        is_error = exchange["status"] >= 400
        found = _json(answer.content)
        for difference in _differences(exchange, answer, found):
            yield f"{label}: {difference}"
        if not is_error and answer.status_code < 400:
            _learn(exchange["response"], found, values)
            _learn(exchange["response_headers"], dict(answer.headers), values)


def _headers(exchange: dict[str, Any]) -> dict[str, str]:
    is_form = (exchange["body"] or {}).get("kind") == "form"
    return {k: v for k, v in exchange["headers"].items() if not (is_form and k == "content-type")}


def _content(body: Any, restore: Any) -> dict[str, Any]:
    from maas_client.local.requests.seed import training_lines

    kind = body["kind"] if body else None
    if kind == "json":
        return {"content": restore(json.dumps(body["value"])).encode()}
    if kind == "blocks":
        return {"content": body["text"].encode()}
    if kind == "form":
        files = {"file": ("train.jsonl", training_lines(), "application/jsonl")}
        return {"files": files, "data": {"purpose": "fine-tune"}}
    return {"content": training_lines()} if kind == "bytes" else {}


def _token(client: httpx.Client) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": "x",
        "client_secret": "x",
        "scope": "https://management.azure.com/.default",
    }
    answer = client.post("https://login.microsoftonline.com/x/oauth2/v2.0/token", data=form)
    return str(answer.json()["access_token"])


def _differences(exchange: dict[str, Any], answer: httpx.Response, found: Any) -> Iterator[str]:
    if answer.status_code != exchange["status"]:
        yield f"status {exchange['status']} on Azure, {answer.status_code} here"
        return
    content_type = answer.headers.get("content-type", "").partition(";")[0]
    if content_type != exchange["content_type"]:
        yield f"content type {exchange['content_type'] or 'none'} on Azure, {content_type or 'none'} here"
    here = {name for name in _RESPONSE_HEADERS if name in answer.headers}
    for header in sorted(here ^ set(exchange["response_headers"])):
        yield f"header {header} only {'here' if header in here else 'on Azure'}"
    if exchange["content_type"] != "text/event-stream":
        yield from _shape_differences(exchange["response"], found, "body")


def _has_ended(value: Any) -> bool:
    """Return whether an answer has a status that is final."""
    if isinstance(value, dict):
        states = (value.get("status"), value.get("provisioningState"))
        return any(isinstance(s, str) and is_final(s) for s in states) or any(
            map(_has_ended, value.values())
        )
    return isinstance(value, list) and any(map(_has_ended, value))


def _shape_differences(azure: Any, local: Any, path: str) -> Iterator[str]:
    if azure is None or local is None:
        return  # null says nothing about the type
    kinds = [_kind(value) for value in (azure, local)]
    if kinds[0] != kinds[1]:
        yield f"{path} is {kinds[0]} on Azure, {kinds[1]} here"
    elif isinstance(azure, dict) and path.rpartition(".")[2] not in _FREE_MAPS:
        for name in sorted({*azure, *local}):
            if name.startswith("maas_client."):  # what this server adds
                continue
            if name not in local:
                yield f"{path}.{name} only on Azure"
            elif name not in azure:
                yield f"{path}.{name} only here"
            else:
                yield from _shape_differences(azure[name], local[name], f"{path}.{name}")
    elif isinstance(azure, list) and azure and local:
        yield from _shape_differences(_merged(azure), _merged(local), f"{path}[]")


def _merged(items: list[Any]) -> Any:
    """Return one item with the fields of all, so that lists can be compared."""
    if all(isinstance(item, dict) for item in items):
        merged: dict[str, Any] = {}
        for item in items:
            merged |= {k: v for k, v in item.items() if v is not None or k not in merged}
        return merged
    return items[0]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"


def _learn(azure: Any, local: Any, values: dict[str, str]) -> None:
    """Take over what the local server answers for a placeholder: ids, names and hosts."""
    if isinstance(azure, dict) and isinstance(local, dict):
        for name in azure:
            _learn(azure[name], local.get(name), values)
    elif isinstance(azure, list) and isinstance(local, list):
        for first, second in zip(azure, local, strict=False):
            _learn(first, second, values)
    elif isinstance(azure, str) and isinstance(local, str):
        if _PLACEHOLDER.fullmatch(azure):
            values.setdefault(azure, local)
            return
        tokens = [re.split(r"[^\w-]+", text) for text in (azure, local)]
        if len(tokens[0]) == len(tokens[1]):
            for first, second in zip(*tokens, strict=True):
                if _PLACEHOLDER.fullmatch(first):
                    values.setdefault(first, second)


def main(arguments: list[str] | None = None) -> int:
    """Compare a cassette with the local server; return 0 without differences, else 1.

    Args:
        arguments: The command-line arguments. Default: those of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m maas_client.testing.compare",
        description="Send the requests of a cassette to a local server and report where its answers differ.",
    )
    parser.add_argument("cassette", metavar="CASSETTE", help="a file that a Recorder wrote")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    options = parser.parse_args(arguments)
    try:
        differences = compare(options.cassette)
    except MaasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(differences))
    else:
        print("\n".join(differences) or "no differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
