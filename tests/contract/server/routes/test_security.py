"""Checks on every request, for every route: the cases are generated from the route tables."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket

import httpx
import pytest

from maas_client.local.embedded_server import serve
from maas_client.local.http.hosts import path_prefix
from maas_client.local.http.routes.azureml import TABLES
from maas_client.local.http.security import SecurityMiddleware
from maas_client.local.server import ROUTE_TABLES
from maas_client.wire.operation import Plane, expand_path
from tests.contract.server.conftest import LOGIN_FORM, PLAIN_HTTP, WS, Azure, chats


class Values(dict[str, str]):
    """Values for the parameters of all paths; ``x`` where no other matters."""

    def get(self, name: str, default: str | None = None) -> str:  # type: ignore[override]
        return super().get(name) or "x"


VALUES = Values(
    datastore="workspaceblobstore", version="1", location="eastus2", registry="azureml", blob="b/c"
)
ROUTES = sorted(
    {(op.method, expand_path(t.prefix + op.path, VALUES)) for t in TABLES for op in t.operations}
)
IMPLEMENTED = {
    (op.method, expand_path(table.prefix + op.path, VALUES))
    for table in ROUTE_TABLES
    for op in table.operations
    if op.name not in table.not_implemented
}
OTHERS = sorted(
    {
        (op.method, expand_path(table.prefix + op.path, VALUES))
        for table in ROUTE_TABLES
        for op in table.operations
    }
    - IMPLEMENTED
)
ALL_ROUTES = [*sorted(IMPLEMENTED), *OTHERS[::20]]
"""Every operation, and some of the hundreds that are answered with 501."""
OPEN = re.compile(
    "/discovery|/metadata/endpoints|/x/oauth2/(v2.0/)?[a-z]+|/x/discovery/(instance|v2.0/keys)"
    "|/x/(v2.0/)?.well-known/openid-configuration|/common/userrealm/x"
)
"""Paths that Azure serves without a credential, too."""
KEY = "the-right-key-of-this-server"


def raw(server, head: str) -> str:
    """Send raw bytes and return the status code."""
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head.replace("\n", "\r\n").replace("PORT", str(port)).encode() + b"\r\n\r\n")
        return sock.recv(4096).decode("latin-1").split(" ")[1]


@pytest.fixture(scope="module")
def keyed_server():
    with serve(engine="instant", api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def http_client():
    with httpx.Client(**PLAIN_HTTP, timeout=30) as client:
        yield client


@pytest.fixture
def ask(http_client):
    def send(server, route, **headers):
        method, path = route
        return http_client.request(method, server.url + path, headers=headers)

    return send


def test_every_operation_has_a_case():
    assert len(ALL_ROUTES) > 200
    assert set(ROUTES) < {*IMPLEMENTED, *OTHERS}


def is_thorough(route):
    """Return whether a route gets all variants of a check; the others get one of each kind, to save time."""
    return ALL_ROUTES.index(route) % 25 == 0


def route_id(route):
    return f"{route[0]} {route[1][-60:]}"


@pytest.mark.parametrize("route", ALL_ROUTES, ids=route_id)
def test_every_route_refuses_other_credentials_than_the_key(keyed_server, ask, route):
    if OPEN.fullmatch(route[1]):
        return
    for wrong in (KEY[:-1], KEY + "x", KEY.upper(), "é") if is_thorough(route) else (KEY[:-1],):
        for headers in ({"Authorization": f"Bearer {wrong}".encode()}, {"api-key": wrong.encode()}):
            assert ask(keyed_server, route, **headers).status_code == 401, headers
    sas = "sig=AAAA&sp=racwdl&sv=2024-11-04&se=2099-01-01T00:00:00Z&sr=c"
    assert ask(keyed_server, (route[0], f"{route[1]}?{sas}")).status_code in (401, 403)
    assert ask(keyed_server, route, Authorization=f"Bearer {KEY}").status_code not in (401, 403)


@pytest.mark.parametrize("route", ALL_ROUTES, ids=route_id)
def test_every_route_checks_host_origin_and_credential(server, ask, route):
    bearer = {"Authorization": "Bearer t"}
    foreign = [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ]
    if is_thorough(route):
        foreign += [
            ({"Host": "127.0.0.1"}, 421),  # a page from another port
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:1"}, 403),
            ({"Origin": "https://localhost"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
        ]
    for headers, status in foreign:
        assert ask(server, route, **headers, **bearer).status_code == status, headers
    if not OPEN.fullmatch(route[1]):
        missing = [{}, {"Authorization": "Bearer"}, {"Authorization": ""}]
        for headers in missing if is_thorough(route) else missing[:1]:
            assert ask(server, route, **headers).status_code == 401
    response = ask(server, route, **bearer)
    assert response.status_code not in (401, 403, 421, 500)
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["x-ms-request-id"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:PORT", "200"), ("localhost:PORT", "200"), ("LOCALHOST:PORT", "200"), ("[::1]:PORT", "200"),
     ("localhost.:PORT", "421"), ("127.0.0.1", "421"), ("127.0.0.1:1", "421"), ("evil.localhost:PORT", "421"),
     ("127.0.0.1:PORT@evil.example", "421"), ("evil.example", "421"), ("0.0.0.0:PORT", "421"),
     ("management.azure.com", "421"), ("127.1:PORT", "421"), ("2130706433:PORT", "421")],
)  # fmt: skip
def test_host_header(server, host, status):
    assert raw(server, f"GET /discovery HTTP/1.1\nHost: {host}") == status


def test_two_host_headers_and_none(server):
    assert raw(server, "GET /discovery HTTP/1.1\nHost: 127.0.0.1:PORT\nHost: evil") == "400"
    assert raw(server, "GET /discovery HTTP/1.1\nAccept: x") == "400"
    assert raw(server, "GET http://evil.example/discovery HTTP/1.1\nHost: evil.example") == "421"


def test_same_origin_is_accepted(server):
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin", "Authorization": "Bearer t"}
    assert (
        httpx.get(
            server.url + WS + "?api-version=2024-10-01", headers=headers, **PLAIN_HTTP
        ).status_code
        == 200
    )


@pytest.mark.parametrize("header", ["Bearer t", "t", "bearer t", "SharedKey a:b"])
def test_any_credential_is_accepted_on_loopback(server, header):
    url = server.url + WS + "?api-version=2024-10-01"
    assert httpx.get(url, headers={"Authorization": header}, **PLAIN_HTTP).status_code == 200
    assert httpx.get(url, headers={"api-key": header}, **PLAIN_HTTP).status_code == 200


def test_sas_is_valid_for_blobs_only(server):
    assert (
        httpx.get(f"{server.url}{WS}?api-version=2024-10-01&sig=x", **PLAIN_HTTP).status_code == 401
    )


# -- with a key -------------------------------------------------------------------------------


def test_api_key_excludes_other_credentials():
    with serve(engine="instant", api_key="the-right-key-of-this-server") as server:
        wrong, right = Azure(server.url), Azure(server.url)
        right.http.headers["Authorization"] = "Bearer the-right-key-of-this-server"
        refused = wrong.arm("GET", "")
        assert refused.status_code == 401
        assert "server.json" in refused.json()["error"]["message"]
        assert right.arm("GET", "").status_code == 200
        base, sas = right.container()
        block = {"x-ms-blob-type": "BlockBlob"}
        assert (
            httpx.put(f"{base}/x?{sas}", content=b"x", headers=block, **PLAIN_HTTP).status_code
            == 201
        )
        forged = f"{base}/x?sv=2024-11-04&sr=c&sp=racwdl&se=2099-01-01T00%3A00%3A00Z&sig=AAAA"
        assert httpx.get(forged, **PLAIN_HTTP).status_code == 403
        other_container = (
            base.rsplit("/", 1)[0] + "/azureml-blobstore-00000000-0000-0000-0000-000000000000"
        )
        assert httpx.get(f"{other_container}/x?{sas}", **PLAIN_HTTP).status_code == 403
        assert right.job("keyed") == "Completed"
        uri = right.deploy("e1", right.model_id("keyed"))
        keys = right.arm("POST", "/serverlessEndpoints/e1/listKeys").json()
        refused = wrong.chat(uri, "hi")
        assert refused.status_code == 401
        assert "maas-client deployments keys " in refused.json()["error"]["message"]
        wrong.http.headers["Authorization"] = keys["primaryKey"]
        assert wrong.chat(uri, "hi").status_code == 200
        assert (
            wrong.arm("GET", "").status_code == 401
        )  # the key of an endpoint is valid for that endpoint only
        fresh = right.arm(
            "POST", "/serverlessEndpoints/e1/regenerateKeys", json={"keyType": "Primary"}
        ).json()
        assert fresh["primaryKey"] != keys["primaryKey"]
        assert fresh["secondaryKey"] == keys["secondaryKey"]
        assert wrong.chat(uri, "hi").status_code == 401  # the old key is no longer valid
        log = right.history("GET", "/runs/keyed/details").json()["logFiles"].popitem()[1]
        assert httpx.get(log, **PLAIN_HTTP).status_code == 200
        assert httpx.get(log.replace("sig=", "sig=0"), **PLAIN_HTTP).status_code == 403
        wrong.http.close(), right.http.close()


# -- versions, methods, paths -----------------------------------------------------------------


@pytest.mark.parametrize(
    "version",
    ["", "soon", "2024-13-01", "2024-10-01-", "2024-10-01' OR 1", "1.0", "v1.0", "1999-01-01"],
)
def test_malformed_api_versions_are_refused(azure: Azure, version):
    response = azure.http.get(WS, params={"api-version": version})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "InvalidApiVersionParameter"


@pytest.mark.parametrize(
    "version", ["2023-04-01-preview", "2024-10-01", "2021-10-01-dataplanepreview"]
)
def test_known_api_versions(azure: Azure, version):
    response = azure.http.get(WS, params={"api-version": version})
    assert response.status_code == 200
    assert "warning" not in response.headers


def test_newer_api_version_gets_a_warning(azure: Azure):
    response = azure.http.get(WS, params={"api-version": "2031-02-03-preview"})
    assert response.status_code == 200
    assert "2031-02-03-preview" in response.headers["warning"]


def test_query_parameter_with_two_values(azure: Azure):
    for query in ("api-version=2024-10-01&api-version=2025-06-01", "$skip=1&$skip=2"):
        response = azure.http.get(f"{WS}/jobs?api-version=2024-10-01&{query}")
        assert response.status_code == 400, query
        assert "more than one value" in response.json()["error"]["message"]
    twice = azure.http.get(f"{WS}/jobs?api-version=2024-10-01&api-version=2024-10-01")
    assert twice.status_code == 200


def test_missing_api_version(azure: Azure):
    assert azure.http.get(WS).json()["error"]["code"] == "MissingApiVersionParameter"


def test_unknown_paths_and_methods(azure: Azure):
    nowhere = azure.http.get("/no/such/path")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "InvalidResourceType")
    wrong = azure.arm("PATCH", "/jobs/x")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET, PUT")


def test_unimplemented_operation_is_501(azure: Azure):
    response = azure.http.post("/openai/v1/fine_tuning/jobs/j/checkpoints/c/copy", json={})
    assert (response.status_code, response.json()["error"]["code"]) == (501, "NotImplemented")


def test_client_request_id_is_echoed(azure: Azure):
    response = azure.arm("GET", "", headers={"x-ms-client-request-id": "mine-1"})
    assert response.headers["x-ms-client-request-id"] == "mine-1"
    assert response.headers["x-ms-correlation-request-id"]


def test_body_size_limits(azure: Azure, server):
    big = azure.arm("PUT", "/jobs/big", content=b" " * (9 << 20))
    assert (big.status_code, big.json()["error"]["code"]) == (413, "RequestBodyTooLarge")
    assert (
        raw(
            server,
            f"PUT {WS}/jobs/x HTTP/1.1\nHost: 127.0.0.1:PORT\nAuthorization: t\nContent-Length: -5",
        )
        == "400"
    )

    def endless():
        for _ in range(200):
            yield b" " * 65536

    hung_up = (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)
    with contextlib.suppress(*hung_up):
        assert azure.arm("PUT", "/jobs/big", content=endless()).status_code == 413


def test_deep_json_is_refused(azure: Azure):
    deep = b'{"properties":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    assert azure.arm("PUT", "/jobs/deep", content=deep).status_code == 400


def test_no_response_contains_a_secret(azure: Azure):
    azure.job("secretless", chats())
    uri = azure.deploy("sec", azure.model_id("secretless"))
    key = azure.arm("POST", "/serverlessEndpoints/sec/listKeys").json()["primaryKey"]
    for response in (azure.arm("GET", "/serverlessEndpoints/sec"), azure.arm("GET", "/serverlessEndpoints"),
                   azure.chat(uri, "x", bad=1)):  # fmt: skip
        assert key not in response.text


@pytest.mark.parametrize(
    ("host", "prefix"),
    [("management.azure.com", ""), ("eastus2.api.azureml.ms", ""),
     ("maaslocal.blob.core.windows.net", "/maaslocal"),
     ("tickets.eastus2.models.ai.azure.com", "/serverless/tickets"), ("example.com", None),
     ("blob.core.windows.net.evil.com", None), ("x.management.azure.com", None)],
)  # fmt: skip
def test_azure_host_names_map_to_paths(host, prefix):
    assert path_prefix(host) == prefix


def test_operation_without_handler_stops_startup(server):
    from dataclasses import replace

    from maas_client.local.http.app import build_app

    table = TABLES[0]
    broken = replace(table, handlers=dict(list(table.handlers.items())[1:]))
    with pytest.raises(RuntimeError, match="no handler for"):
        build_app(server._server.services, [broken], None)


def test_error_format_of_each_api(azure: Azure):
    arm = azure.arm("GET", "/jobs/none").json()["error"]
    assert {"code", "message", "target", "details", "additionalInfo"} <= set(arm)
    history = azure.history("GET", "/runs/none").json()
    assert {"error", "correlation", "environment", "location", "time", "componentName"} <= set(
        history
    )
    openai = azure.http.post("/serverless/none/v1/chat/completions", json={}).json()["error"]
    assert set(openai) == {"code", "message", "param", "type"}
    flat = azure.http.post("/serverless/none/chat/completions", json={})
    assert flat.json()["status"] == flat.status_code == 404
    assert flat.headers["x-ms-error-code"] == flat.json()["error"]["code"]


def test_wrong_key_of_an_endpoint_is_refused(azure: Azure):
    uri = azure.deploy("keyed", "azureml://registries/azureml/models/Phi-4-mini-instruct")
    keys = azure.arm("POST", "/serverlessEndpoints/keyed/listKeys").json()
    body = {"messages": [{"role": "user", "content": "x"}]}
    for headers, status in (
        ({"api-key": keys["primaryKey"]}, 200),
        ({"Authorization": keys["secondaryKey"]}, 200),
        ({"Authorization": f"Bearer {keys['primaryKey']}"}, 200),
        ({"Authorization": azure.http.headers["Authorization"]}, 200),  # a token of Entra
        ({"api-key": "wrong"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({}, 401),
    ):
        for path in ("/v1/chat/completions", "/chat/completions"):
            for base in (uri, uri.replace("/serverless/", "/Serverless/")):  # the same route
                response = httpx.post(base + path, json=body, headers=headers, **PLAIN_HTTP)
                assert response.status_code == status, (headers, response.text)
    missing = uri.replace("keyed", "missing") + "/chat/completions"
    response = httpx.post(missing, json=body, headers={"api-key": "wrong"}, **PLAIN_HTTP)
    assert response.status_code == 404


@pytest.mark.parametrize("change", [str, str.upper])
@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PUT", "/t/oauth2/v2.0/token", "error_description"),
        ("GET", "/t/v2.0/.well-known/openid-configuration?x=1", "error_description"),
        ("POST", "/t/.well-known/openid-configuration", "error_description"),
        ("GET", "/t/discovery/instance?x=1", "error_description"),
        ("POST", "/t/discovery/v2.0/keys", "error_description"),
        ("POST", "/t/oauth2/v2.0/devicecode", "error_description"),
        ("GET", "/t/oauth2/authorize", "error_description"),
        ("GET", "/common/userrealm/ann@contoso.com", "error_description"),
        ("GET", "/t/oauth2/unknown", "error_description"),
        ("GET", "/mlflow/v2.0/x", "error_code"),
        ("GET", "/history/v1.0/x", "correlation"),
        ("GET", "/metric/v2.0/x", "correlation"),
        ("GET", "/models/x", "status"),
        ("GET", "/api/projects/p/fine_tuning/x", "field"),
    ],
)
def test_errors_have_the_form_of_their_api_in_any_case(azure: Azure, method, path, field, change):
    """Paths are matched without regard to case."""
    response = azure.http.request(method, change(path))
    assert response.status_code in (404, 405, 501)
    assert field in response.json()


def test_arm_names_the_authority_in_a_401(azure: Azure):
    response = httpx.get(f"{azure.url}{WS}?api-version=2024-10-01-preview", **PLAIN_HTTP)
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer authorization_uri="https://login.microsoftonline.com/')


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"scope": "https://management.azure.com/user_impersonation"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_id": ""}, 400, "invalid_request"),
    ],
)
def test_login_refuses_as_entra_does(azure: Azure, form, status, error):
    response = azure.http.post("/t/oauth2/v2.0/token", data=LOGIN_FORM | form)
    assert (response.status_code, response.json()["error"]) == (status, error)


def test_login_of_v1_takes_a_resource(azure: Azure):
    """As go-autorest and curl's lines of Microsoft's documentation send it."""
    form = {name: value for name, value in LOGIN_FORM.items() if name != "scope"}
    url = f"{azure.url}/t/oauth2/token"
    refused = httpx.post(url, data=form, **PLAIN_HTTP)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    resource = "https://management.azure.com/"
    token = httpx.post(
        f"{url}?api-version=1.0", data=form | {"resource": resource}, **PLAIN_HTTP
    ).json()
    assert token["resource"] == resource
    assert int(token["expires_on"]) - int(token["not_before"]) == int(token["expires_in"]) > 0
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    url = f"{azure.url}{WS}?api-version=2024-10-01"
    assert httpx.get(url, headers=headers, **PLAIN_HTTP).status_code == 200


def test_names_of_the_login_give_no_access_elsewhere(azure: Azure):
    """Blobs, endpoints and subscriptions whose paths look like those of the login."""
    for path in (
        "/maaslocal/discovery/instance",
        "/maaslocal/oauth2/token",
        "/serverless/oauth2/v1/models",
        "/serverless/oauth2/v2.0/token",
        "/subscriptions/oauth2/resourceGroups",
        "/subscriptions/oauth2/locations",
        "/subscriptions/userrealm/tagNames",
        "/providers/userrealm/x",
    ):
        first, following = path[1], path[2:]
        for sent in (
            path,
            path.upper(),
            f"/%{ord(first):x}{following}",
            f"/{first}{following.replace('/', '%2F')}",
        ):
            assert httpx.get(f"{azure.url}{sent}", **PLAIN_HTTP).status_code == 401, sent


def test_only_operations_of_the_login_are_public():
    """Whatever the values of their parameters are."""
    words = [
        ".well-known",
        "discovery",
        "instance",
        "oauth2",
        "openid-configuration",
        "token",
        "userrealm",
        "v2.0",
    ]
    for table in ROUTE_TABLES:
        for op in table.operations:
            template = re.sub(r"\{[^}]+\}", "{}", table.prefix + op.path)
            if op.plane is Plane.ANONYMOUS or template.count("/") > 4:
                continue
            for values in itertools.product(words, repeat=template.count("{}")):
                path = template.format(*values)
                assert not SecurityMiddleware.is_public(path), (op.name, path)


_SUBSCRIPTION = "/subscriptions/11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{_SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts", "Microsoft.Storage"),
        (f"{WS}/providers/Microsoft.Insights/metrics", "Microsoft.Insights"),
        (
            f"{_SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments",
            "Microsoft.Authorization",
        ),
        (
            f"{_SUBSCRIPTION}/resourcegroups/g/providers/Microsoft.Resources/deployments/d",
            "Microsoft.Resources",
        ),
        (f"{_SUBSCRIPTION}/tagNames", "Tags"),
        (f"/raisvc/v1.0{WS}/submitannotation", "raisvc"),
        (f"/agents/v1.0{WS}/assistants", "agents"),
        ("/anthropic/v1/messages", "anthropic"),
        ("/contentsafety/text:analyze", "contentsafety"),
        ("/api/projects/p/assistants", "Classic Agents"),
        ("/api/projects/p/threads/t/runs", "Classic Agents"),
        ("/api/projects/p/evaluations/runs:run", "Evaluations"),
    ],
)
def test_services_that_are_absent_are_501_by_name(azure: Azure, path, name):
    """404 would say that the resource does not exist."""
    for method in ("GET", "POST"):
        response = azure.http.request(method, path, params={"api-version": "2024-10-01"})
        assert (response.status_code, response.json()["error"]["code"]) == (501, "NotImplemented")
        assert name in response.json()["error"]["message"]


def test_unknown_paths_of_known_services_are_404(azure: Azure):
    for path in (
        f"{_SUBSCRIPTION}/providers/Microsoft.CognitiveServices/unknown",
        "/unknown/v1.0",
        "/api/projects/p/unknown",
    ):
        assert azure.http.get(f"{path}?api-version=2024-10-01").status_code == 404, path
