"""The proxy and its certificates: Azure's hosts reach this server, other hosts are refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from maas_client import Client
from maas_client._transport.http import make_client
from maas_client.errors import ConfigError
from maas_client.local import serve
from maas_client.local.embedded_server import LocalServer
from maas_client.local.http.connections import CertificateAuthority
from tests.contract.server.conftest import PLAIN_HTTP
from tests.official.conftest import minimal_environment, training_rows

ARM = "https://management.azure.com"
LOGIN = "https://login.microsoftonline.com"
WS = "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant", proxy=True) as running:
        yield running


def through(server: LocalServer) -> httpx.Client:
    info = server.environment
    trusted = ssl.create_default_context(cafile=info["SSL_CERT_FILE"])
    return httpx.Client(proxy=info["HTTPS_PROXY"], verify=trusted, trust_env=False, timeout=20)


def send_raw(server: LocalServer, data: bytes) -> bytes:
    """Send raw bytes to the proxy and return its whole response."""
    url = urlsplit(server.environment["HTTPS_PROXY"])
    with socket.create_connection((str(url.hostname), url.port or 0), timeout=20) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        received = b""
        while piece := line.recv(4096):
            received += piece
        return received


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT management.azure.com:22 HTTP/1.1\r\n\r\n",
        b"CONNECT management.azure.com.evil.example:443 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:443 HTTP/1.1\r\n\r\n",
        b"CONNECT 169.254.169.254:443 HTTP/1.1\r\n\r\n",
        b"CONNECT evilmanagement.azure.com:443 HTTP/1.1\r\n\r\n",
        b"GET http://management.azure.com/ HTTP/1.1\r\nHost: management.azure.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00nonsense\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_other_requests_are_refused(server: LocalServer, request_bytes: bytes) -> None:
    assert send_raw(server, request_bytes).startswith(b"HTTP/1.1 403 Forbidden\r\n")


@pytest.mark.parametrize(
    "host",
    [
        "..api.azureml.ms",
        ".api.azureml.ms",
        "-a.api.azureml.ms",
        "a-.api.azureml.ms",
        "a..b.api.azureml.ms",
        "a" * 64 + ".api.azureml.ms",
        "a." * 125 + "api.azureml.ms",
        "xn--a.api.azureml.ms",
        "a.azureml.ms.",
    ],
)
def test_invalid_host_names_leave_no_connection(server: LocalServer, host: str) -> None:
    """The peer sees the end of the connection: a 403, or no answer where no certificate can be made."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        answer = send_raw(server, f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        assert answer == b"" or answer.startswith(b"HTTP/1.1 403")
    if before:
        deadline = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) > before + 2:
            assert time.monotonic() < deadline, "connections stay open"
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("management.azure.com", f"{WS}?api-version=2024-10-01", 200),
        ("MANAGEMENT.azure.com", f"{WS}?api-version=2024-10-01", 200),
        ("management.azure.com", "/metadata/endpoints?api-version=2022-09-01", 200),
        ("westus3.api.azureml.ms", "/discovery", 200),
        ("login.microsoftonline.com", "/t/v2.0/.well-known/openid-configuration", 200),
        ("login.microsoftonline.com", "/common/discovery/instance", 200),
        ("contoso.openai.azure.com", "/openai/v1/models", 200),
        ("contoso.services.ai.azure.com", "/api/projects/p/openai/v1/models", 200),
        ("contoso.cognitiveservices.azure.com", "/openai/models?api-version=2024-10-21", 200),
        ("nobody.eastus2.models.ai.azure.com", "/info?api-version=2024-05-01-preview", 404),
        ("other.blob.core.windows.net", "/container/blob", 501),
        ("maaslocal.dfs.core.windows.net", "/container?resource=filesystem", 501),
        ("maaslocal.queue.core.windows.net", "/?comp=list", 501),
        ("maaslocal-secondary.blob.core.windows.net", "/?restype=service&comp=stats", 501),
    ],
)
def test_azure_hosts_reach_this_server(
    server: LocalServer, host: str, path: str, status: int
) -> None:
    with through(server) as http:
        response = http.get(f"https://{host}{path}", headers={"Authorization": "Bearer t"})
    assert response.status_code == status, response.text


def test_urls_in_responses_use_azure_hosts(server: LocalServer) -> None:
    with through(server) as http:
        auth = {"Authorization": "Bearer t"}
        here = http.get(f"{ARM}{WS}?api-version=2024-10-01", headers=auth).json()
        assert here["properties"]["discoveryUrl"] == "https://eastus2.api.azureml.ms/discovery"
        clouds = http.get(f"{ARM}/metadata/endpoints?api-version=2022-09-01").json()
        assert (clouds["name"], clouds["resourceManager"]) == ("AzureCloud", f"{ARM}/")
        openid = "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration"
        assert (
            http.get(openid)
            .json()["token_endpoint"]
            .startswith("https://login.microsoftonline.com/t/")
        )


def test_host_header_must_match_tunnel(server: LocalServer) -> None:
    with through(server) as http:
        for wrong in ("login.microsoftonline.com", "127.0.0.1", "management.azure.com:444"):
            response = http.get(f"{ARM}/metadata/endpoints", headers={"Host": wrong})
            assert response.status_code == 421
        assert (
            http.get(f"{ARM}/metadata/endpoints", headers={"Host": "management.azure.com:443"})
        ).status_code == 200


def test_plain_port_refuses_azure_hosts(server: LocalServer) -> None:
    response = httpx.get(
        f"{server.url}/metadata/endpoints",
        headers={"Host": "management.azure.com"},
        **PLAIN_HTTP,
    )
    assert response.status_code == 421


def test_certificate_of_host_and_ca(server: LocalServer) -> None:
    info = server.environment
    with (
        httpx.Client(proxy=info["HTTPS_PROXY"], trust_env=False) as http,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE"),
    ):
        http.get(f"{ARM}/metadata/endpoints")


def test_concurrent_tunnels(server: LocalServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> int:
        with through(server) as http:
            host = f"account{number % 5}.openai.azure.com"
            return http.get(
                f"https://{host}/openai/v1/models", headers={"api-key": "k"}
            ).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {200}


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_QUICKACK is Linux's")
def test_body_after_header_does_not_wait_for_a_delayed_acknowledgement(server: LocalServer) -> None:
    """requests uses Nagle's algorithm behind a proxy: each POST took the 40 ms of a delayed acknowledgement."""
    info = server.environment
    times = []
    with requests.Session() as session:
        session.proxies, session.verify = {"https": info["HTTPS_PROXY"]}, info["SSL_CERT_FILE"]
        session.trust_env = False
        for _ in range(12):
            start = time.perf_counter()
            session.post(f"{LOGIN}/t/oauth2/v2.0/token", data={"client_id": "c"})
            times.append(time.perf_counter() - start)
    later = times[2:]  # the first requests of a connection are acknowledged at once
    assert min(later) < 0.035, times


def test_ca_is_reused_after_restart(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path).cert_path.read_bytes()
    assert CertificateAuthority(tmp_path).cert_path.read_bytes() == first
    assert stat.S_IMODE((tmp_path / "ca-key.pem").stat().st_mode) == 0o600


def test_invalid_ca_file_releases_state_directory(tmp_path: Path) -> None:
    for name in ("ca.pem", "ca-key.pem"):
        (tmp_path / name).write_text("rubbish")
    for _ in range(2):  # the same error the second time: the lock was released
        with pytest.raises(ConfigError, match="not a certificate"):
            serve(engine="instant", tls=True, state_dir=tmp_path).start()


def test_login_token_is_accepted_by_server_with_key() -> None:
    key = "a-key-of-this-server"
    with serve(engine="instant", proxy=True, api_key=key) as server, through(server) as http:
        url = "https://login.microsoftonline.com/tenant/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": "app",
            "scope": "https://management.azure.com/.default",
        }
        assert http.post(url, data={**form, "client_secret": "wrong"}).status_code == 401
        assert http.post(url, data=form).status_code == 401
        got = http.post(url, data={**form, "client_secret": key}).json()
        ask = f"{ARM}{WS}?api-version=2024-10-01"
        for path in ("/subscriptions", "/tenant/unknown"):
            unknown = http.get(f"https://login.microsoftonline.com{path}")
            assert (unknown.status_code, unknown.json()["error"]) == (404, "not_found")

        def status(token: str) -> int:
            return http.get(ask, headers={"Authorization": f"Bearer {token}"}).status_code

        assert status(got["access_token"]) == 200
        assert status(got["access_token"][:-2] + "AA") == 401
        assert status("a.b.c") == 401
        assert status(key) == 200


@pytest.mark.parametrize("grant", ["password", "refresh_token", ""])
def test_other_grants_are_refused(server: LocalServer, grant: str) -> None:
    url = f"{server.url}/tenant/oauth2/v2.0/token"
    response = httpx.post(url, data={"grant_type": grant, "client_id": "x"}, **PLAIN_HTTP)
    assert (response.status_code, response.json()["error"]) == (400, "unsupported_grant_type")


def test_tls_and_metadata_document(tmp_path: Path) -> None:
    with serve(engine="instant", tls=True) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with server.client() as client:
            assert not list(client.jobs.list())
        with pytest.raises(Exception, match="CERTIFICATE"), Client.local(url=server.url) as client:
            list(client.jobs.list())
        ca = str(server.state_dir / "ca.pem")
        trusted = ssl.create_default_context(cafile=ca)
        with httpx.Client(verify=trusted, trust_env=False) as http:
            clouds = http.get(f"{server.url}/metadata/endpoints?api-version=2022-09-01").json()
            assert clouds["resourceManager"] == f"{server.url}/"
            login = clouds["authentication"]["loginEndpoint"]
            openid = http.get(f"{login}tenant/v2.0/.well-known/openid-configuration").json()
            assert openid["token_endpoint"].startswith(f"{server.url}/tenant/")


async def test_usual_authorities_are_read_by_the_first_tls_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with (
        serve(engine="instant", tls=True) as server,
        make_client(httpx.Client, None, None, loopback_only=True) as http,
    ):
        async with make_client(httpx.AsyncClient, None, None, loopback_only=True) as async_http:
            monkeypatch.setenv("SSL_CERT_FILE", str(server.state_dir / "ca.pem"))
            for _ in range(2):
                assert http.get(f"{server.url}/discovery").status_code == 200
                assert (await async_http.get(f"{server.url}/discovery")).status_code == 200


def test_certificates_that_have_changed_are_read_again(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    with serve(engine="instant", tls=True) as one, serve(engine="instant", tls=True) as other:
        for number, server in enumerate((one, other)):
            ca_file.write_bytes((server.state_dir / "ca.pem").read_bytes())
            os.utime(ca_file, (number, number))
            with Client.local(url=server.url, ca_file=str(ca_file)) as client:
                assert not list(client.jobs.list())


def test_clients_without_proxy(tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_bytes(training_rows())
    script = Path(__file__).parent / "scripts" / "without_proxy.py"
    with serve(engine="instant", tls=True) as server:
        ca = str(server.state_dir / "ca.pem")
        document = f"{server.url}/metadata/endpoints?api-version=2022-09-01"
        trust = {"SSL_CERT_FILE": ca, "REQUESTS_CA_BUNDLE": ca, "ARM_CLOUD_METADATA_URL": document}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), server.url, str(data)],
            env=minimal_environment() | trust,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout == "answered\n", done.stderr


def test_output_of_serve_with_proxy(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [
        sys.executable, "-m", "maas_client", "serve", "--engine", "instant", "--port", "0", "--proxy",
        "--print-env", "--state-dir", str(tmp_path / "state"), "--ready-file", str(ready),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline().rstrip("\n") for _ in range(12)]
        info = json.loads(ready.read_text())
        server.terminate()
    assert set(info) == {"url", "pid", "proxy", "ca_file"}
    proxy, certificate = info["proxy"], info["ca_file"]
    guid = "00000000-0000-0000-0000-000000000000"
    assert lines == [
        f"export HTTPS_PROXY={proxy}",
        f"export https_proxy={proxy}",
        "export NO_PROXY=127.0.0.1,localhost",
        "export no_proxy=127.0.0.1,localhost",
        f"export REQUESTS_CA_BUNDLE={certificate}",
        f"export SSL_CERT_FILE={certificate}",
        f"export CURL_CA_BUNDLE={certificate}",
        f"export NODE_EXTRA_CA_CERTS={certificate}",
        "export NODE_USE_ENV_PROXY=1",
        f"export AZURE_TENANT_ID={guid}",
        f"export AZURE_CLIENT_ID={guid}",
        "export AZURE_CLIENT_SECRET=local",
    ]
    assert server.returncode == 0


SHELLS = {
    "sh": ["sh", "-c", '. ./env && printf "%s" "$MAAS_VALUE"'],
    "dotenv": ["sh", "-c", '. ./env && printf "%s" "$MAAS_VALUE"'],
    "fish": ["fish", "-c", 'source ./env; printf "%s" "$MAAS_VALUE"'],
    "powershell": [
        "pwsh",
        "-NoProfile",
        "-Command",
        ". ./env.ps1; Write-Host -NoNewline $env:MAAS_VALUE",
    ],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_printed_variables_are_read_by_the_shell(tmp_path: Path, shell: str) -> None:
    from maas_client.cli.commands.serve import _ENV_FORMATS

    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    value = "/srv/a b/it's/ca.pem"
    for name in ("env", "env.ps1"):
        (tmp_path / name).write_text(_ENV_FORMATS[shell]("MAAS_VALUE", value) + "\n")
    done = subprocess.run(SHELLS[shell], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_variables_suffice_for_azure_identity(server: LocalServer) -> None:
    """A proxy that was set before, under a lower-case name, does not win."""
    environment = minimal_environment() | {"https_proxy": "http://127.0.0.1:9"} | server.environment
    script = (
        "from azure.identity import DefaultAzureCredential as C;"
        "import httpx;"
        "token = C().get_token('https://management.azure.com/.default').token;"
        f"url = '{ARM}{WS}?api-version=2024-10-01-preview';"
        "print(httpx.get(url, headers={'Authorization': f'Bearer {token}'}).json()['name'])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "w\n", done.stderr
