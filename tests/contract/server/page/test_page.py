"""The page at /: how a browser signs in, what every response carries, and what the views contain."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import ssl
import subprocess
from dataclasses import replace

import httpx
import pytest

from maas_client._local_server.probe import new_page_link
from maas_client._local_server.record import ServerRecord
from maas_client.cli import main
from maas_client.errors import AuthError, TransportError, UnsupportedError
from maas_client.local.embedded_server import serve
from maas_client.local.http.page import views
from maas_client.local.http.page.access import LINK_LIFETIME_S, SESSION_LIFETIME_S, PageAccess
from maas_client.local.sessions.records import SESSION_KIND
from maas_client.local.sessions.step_history import GradientSum, step_points
from tests.contract.server.conftest import PLAIN_HTTP

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEY = "the-key-of-this-server"
MARKUP = "<script>alert('x')</script>"
VIEWS = ("", "page/sessions", "page/data", "page/models", "page/deployments", "page/playground")


def chats(count=24):
    rows = [
        {"messages": [{"role": "user", "content": f"{MARKUP} {i}"},
                      {"role": "assistant", "content": f"<img src=x onerror=alert({i})> answer {i}"}]}
        for i in range(count)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows))


SESSION = f"session_{'00c0ffee' * 4}"


def add_session(running, name=SESSION, steps=3, state="running", **body):
    """Add a session as one that another server has left, with a point of each curve for each step."""
    record = {
        "scope": "local",
        "base_model": f"Phi-4 {MARKUP}",
        "base": {"name": "tiny", "is_stand_in": True},
        "lora_config": {"rank": 8, "alpha": 32.0, "seed": 1},
        "user_metadata": {"note": MARKUP},
        "created": "2026-01-01T00:00:00Z",
        "last_request_time": "2026-01-01T00:01:00Z",
        **body,
    }
    with running._server.services.store.write() as writer:
        writer.put(SESSION_KIND, record["scope"], name, record, state)
        for step in range(1, steps + 1):
            result = {"step_count": step, "grad_norm": step / 2}
            sums = GradientSum(loss=6.0 / step, tokens=3)
            writer.add_points(
                name, step_points(sums, {"learning_rate": 1e-3}, result, record["created"])
            )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a key, a job of each dialect and a deployment, all with markup in what a user names."""
    data = tmp_path_factory.mktemp("data") / "train.jsonl"
    data.write_text(chats(), "utf-8")
    with serve(engine="instant", api_key=KEY) as running:
        client = running.client()
        result = client.fine_tune(data, model="Phi-3-mini", deploy="perch")
        services = running._server.services
        record = services.store.read.all("job")[0]
        with services.store.write() as writer:
            record.body["request"]["properties"]["displayName"] = MARKUP
            writer.put("job", record.body["scope"], record.key, record.body, record.state)
        services.jobs.record_progress(
            record.body["id"], [], [{"kind": "message", "level": "info", "message": MARKUP}]
        )
        foundry = running.client(dialect="foundry")
        job = foundry.jobs.create("gpt-4.1-mini", training_data=str(data))
        foundry.jobs.wait(job)
        httpx.post(
            f"{running.url}/openai/v1/files",
            data={"purpose": "fine-tune"},
            files={"file": ("<b>raw.jsonl", data.read_bytes())},
            headers={"api-key": KEY},
            **PLAIN_HTTP,
        ).raise_for_status()
        add_session(running)
        running.job, running.foundry_job = result.job.name, job.id
        yield running


@pytest.fixture
def browser(server):
    """An HTTP client with the cookie of the page."""
    with httpx.Client(base_url=server.url, headers=HTML, **PLAIN_HTTP) as client:
        assert client.get(server.page_link()).status_code == 303
        yield client


def without_cookie(server, path="/", **headers):
    return httpx.get(server.url + path, headers=headers, **PLAIN_HTTP)


def job_path(server, name):
    jobs = server._server.services.store.read.all("job")
    record = next(job for job in jobs if job.body["name"] == name)
    return f"jobs/{record.body['scope']}/{record.key}"


SESSION_PAGE = f"page/sessions/local/{SESSION}"


# -- signing in -------------------------------------------------------------------------------------


def test_a_link_is_exchanged_for_a_cookie_once(server):
    link = server.page_link()
    first = httpx.get(link, headers=HTML, **PLAIN_HTTP)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert attribute in cookie
    assert "Secure" not in cookie  # plain HTTP on loopback
    again = httpx.get(link, headers=HTML, **PLAIN_HTTP)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers
    assert "This link was used" in again.text
    assert "maas-client open" in again.text


def test_a_head_request_does_not_use_up_a_link(server):
    link = server.page_link()
    assert httpx.head(link, headers=HTML, **PLAIN_HTTP).status_code == 401
    assert httpx.get(link, headers=HTML, **PLAIN_HTTP).status_code == 303


@pytest.mark.parametrize("token", ["", "x", "é", "a" * 2000])
def test_an_unknown_token_is_refused(server, token):
    response = httpx.get(f"{server.url}/", params={"token": token}, headers=HTML, **PLAIN_HTTP)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


def test_a_link_and_a_cookie_expire(monkeypatch):
    now = 1e9
    monkeypatch.setattr("maas_client.local.http.page.access.time.time", lambda: now)
    access = PageAccess(b"secret", None, 1)
    late, used = (access.new_link("").partition("=")[2] for _ in range(2))
    cookie = access.redeem(used)
    headers = {"cookie": [f"other=1; maas_page_1={cookie}"]}
    now += LINK_LIFETIME_S + 1
    assert access.redeem(late) is None
    assert access.is_signed_in(headers)
    now = 1e9 + SESSION_LIFETIME_S + 1
    assert not access.is_signed_in(headers)


def test_a_cookie_survives_a_restart_but_not_another_key_or_server():
    cookie = PageAccess(b"secret", KEY, 1).redeem(PageAccess(b"secret", KEY, 1).new_link("")[8:])
    assert cookie is None  # links are of one process
    access = PageAccess(b"secret", KEY, 1)
    cookie = access.redeem(access.new_link("").partition("=")[2])
    headers = {"cookie": [f"maas_page_1={cookie}"]}
    assert PageAccess(b"secret", KEY, 1).is_signed_in(headers)
    for other in (
        PageAccess(b"secret", "k", 1),
        PageAccess(b"s", KEY, 1),
        PageAccess(b"secret", KEY, 2),
    ):
        assert not other.is_signed_in(headers)
    for forged in (f"9{cookie}", cookie[:-1], "", ".", "9999999999.x.", "é"):
        assert not access.is_signed_in({"cookie": [f"maas_page_1={forged}"]})


@pytest.mark.parametrize("view", [*VIEWS, "page/jobs/a/b", "page/unknown"])
def test_a_browser_without_the_cookie_gets_a_page_that_says_how_to_get_in(server, view):
    response = without_cookie(server, f"/{view}", **HTML)
    assert response.status_code == 401
    assert response.headers["content-type"].startswith("text/html")
    assert "maas-client open" in response.text
    assert MARKUP not in response.text
    assert html.escape(MARKUP) not in response.text


def test_a_browser_at_the_address_of_an_operation_gets_that_page_too(server):
    navigation = {**HTML, "Sec-Fetch-Mode": "navigate"}
    response = without_cookie(server, "/subscriptions", **navigation)
    assert response.status_code == 401
    assert "maas-client open" in response.text
    assert (
        "history" in without_cookie(server, "/discovery", **navigation).json()
    )  # needs no credential


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/", {}, 401, "AuthenticationFailed"),
        ("/", {"Accept": "application/json"}, 401, "AuthenticationFailed"),
        ("/", {"api-key": "wrong"}, 401, "InvalidAuthenticationToken"),
        ("/", {**HTML, "Authorization": "Bearer wrong"}, 401, "InvalidAuthenticationToken"),
        ("/", {**HTML, "api-key": KEY}, 404, "InvalidResourceType"),
        ("/subscriptions?api-version=2022-12-01", HTML, 401, "AuthenticationFailed"),
        ("/openai/v1/models", HTML, 401, "401"),
    ],
)
def test_clients_of_the_api_get_the_errors_of_the_api(server, path, headers, status, code):
    response = without_cookie(server, path, **headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["code"] == code


def test_the_cookie_is_no_credential_of_the_api(server, browser):
    for path in (
        "/subscriptions?api-version=2022-12-01",
        "/openai/v1/models",
        "/serverless/perch/v1/models",
    ):
        assert browser.get(path, headers={"Accept": "application/json"}).status_code == 401
    assert browser.post("/page/link", headers={"Origin": server.url}).status_code == 401


def test_a_link_is_made_with_the_key_only(server):
    def link(key):
        return httpx.post(f"{server.url}/page/link", headers={"api-key": key}, **PLAIN_HTTP)

    assert link("wrong").status_code == 401
    assert httpx.get(link(KEY).json()["url"], headers=HTML, **PLAIN_HTTP).status_code == 303


def test_requests_through_the_proxy_never_reach_the_page():
    with serve(engine="instant", proxy=True) as running:
        environment = running.environment
        context = ssl.create_default_context(cafile=environment["SSL_CERT_FILE"])
        with httpx.Client(proxy=environment["HTTPS_PROXY"], verify=context) as client:
            for path in ("/", "/?token=x", "/page/static/page.js"):
                response = client.get(f"https://management.azure.com{path}", headers=HTML)
                assert response.status_code == 401
                assert response.headers["content-type"] == "application/json"


# -- the checks of every request --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_another_page_cannot_read_or_change_anything(server, browser, headers, status):
    action = f"page/api/{job_path(server, server.job)}/cancel"
    for path in ("", "page/models", "page/api/jobs", "page/static/page.js"):
        assert browser.get(path, headers=headers).status_code == status
    assert browser.post(action, headers=headers).status_code == status
    assert browser.get(server.page_link(), headers=headers).status_code == status


CLICK = {**HTML, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_works_on_another_site_such_as_a_terminal_on_the_web(server, site):
    click = {**CLICK, "Sec-Fetch-Site": site}
    link = server.page_link()
    for headers in ({**click, "Sec-Fetch-Dest": "iframe"}, {**click, "Origin": "http://a.example"}):
        assert without_cookie(server, link.removeprefix(server.url), **headers).status_code == 403
    response = httpx.get(link, headers=click, **PLAIN_HTTP)
    assert response.status_code == 200  # a redirect would not have the cookie (SameSite=Strict)
    assert 'http-equiv="refresh" content="0; url=/"' in response.text
    assert "SameSite=strict" in response.headers["set-cookie"]
    assert "default-src 'none'" in response.headers["content-security-policy"]
    again = httpx.get(link, headers=click, **PLAIN_HTTP)
    assert (again.status_code, "set-cookie" in again.headers) == (401, False)


@pytest.mark.parametrize("path", ["/", "/page/models", "/page/models?token=x", "/subscriptions"])
def test_no_other_address_works_on_another_site(server, browser, path):
    assert browser.get(path, headers={**CLICK, "Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_change_by_cookie_needs_its_origin(server, browser):
    action = f"page/api/{job_path(server, server.job)}/cancel"
    assert browser.post(action).status_code == 403
    for headers in ({"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}):
        assert browser.post(action, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", [*VIEWS, "page/api/jobs", "page/unknown", "page/static/page.js", "page/static/x"]
)
def test_every_response_has_a_strict_policy(browser, path):
    headers = browser.get(path).headers
    policy = {
        name: " ".join(values)
        for name, *values in map(str.split, headers["content-security-policy"].split(";"))
    }
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "cache-control" in headers


@pytest.mark.parametrize("view", VIEWS)
def test_views_have_no_inline_code_and_nothing_from_outside(browser, view):
    text = browser.get(view).text
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", text)
    assert all(url.startswith("/") for url in re.findall(r'\s(?:src|href)="([^"#]+)"', text))


# -- contents -----------------------------------------------------------------------------------------


def test_text_of_users_is_escaped(server, browser):
    data = re.search(r'href="(/page/data/data/[^"]+)"', browser.get("page/data").text)
    pages = [*VIEWS, f"page/{job_path(server, server.job)}", SESSION_PAGE, data[1]]
    texts = {page: browser.get(page).text for page in pages}
    for page, text in texts.items():
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
        assert "<b>raw" not in text, page
    assert "&lt;b&gt;raw.jsonl" in texts["page/data"]
    assert html.escape(MARKUP).replace("&#x27;", "&#39;") in texts[""]
    assert "&lt;img src=x onerror=alert(0)&gt;" in texts[data[1]]
    messages = browser.get(f"page/api/{job_path(server, server.job)}").json()["events"]
    assert MARKUP in [event["message"] for event in messages]  # JSON: the script writes it as text


def test_a_data_set_shows_the_charts_of_the_html_report(browser):
    data = re.search(r'href="(/page/data/data/[^"]+)"', browser.get("page/data").text)
    text = browser.get(data[1]).text
    assert 'aria-label="Rows by tokens' in text
    assert "Tokens per row" in text
    assert "--bar" in browser.get("page/static/report.css").text


def test_preferences_are_checked_and_shown_as_preferences(server, browser):
    reply = {"role": "assistant", "content": "yes"}
    row = {"input": {"messages": [{"role": "user", "content": "q"}]},
           "preferred_output": [reply], "non_preferred_output": [{**reply, "content": "no"}]}  # fmt: skip
    lines = "\n".join(
        json.dumps({**row, "input": {"messages": [{"role": "user", "content": f"q{i}"}]}})
        for i in range(12)
    )
    upload = httpx.post(
        f"{server.url}/openai/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("pairs.jsonl", lines)},
        headers={"api-key": KEY},
        **PLAIN_HTTP,
    ).json()
    text = browser.get(f"page/data/file/foundry/{upload['id']}").text
    assert '<span class="good">valid</span>' in text
    assert "preferred assistant" in text
    assert "rejected assistant" in text


def test_jobs_of_both_dialects_are_listed_with_their_progress(server, browser):
    jobs = {job["name"]: job for job in browser.get("page/api/jobs").json()["jobs"]}
    assert set(jobs) == {server.job, server.foundry_job}
    job = jobs[server.job]
    assert job["title"] == MARKUP
    assert (job["state"], job["progress"], job["simulated"]) == ("Completed", 1.0, True)
    assert job["step"] == job["total"] > 0
    assert job["loss"] > 0
    assert server.foundry_job in browser.get("").text


def test_older_jobs_are_on_a_page_of_their_own(server, browser, monkeypatch):
    assert "Older jobs" not in browser.get("").text
    monkeypatch.setattr(views, "PAGE_SIZE", 1)
    newest = browser.get("").text
    assert server.foundry_job in newest
    assert server.job not in newest
    link = re.search(r'href="(/\?before=\d+)">Older jobs', newest)
    assert server.job in browser.get(link[1]).text


def test_metrics_continue_after_a_step(server, browser):
    path = f"page/api/{job_path(server, server.job)}/metrics"
    everything = browser.get(path).json()["series"]["train_loss"]
    assert [step for step, _ in everything] == list(range(1, len(everything) + 1))
    newer = browser.get(path, params={"after": len(everything) - 2}).json()["series"]["train_loss"]
    assert newer == everything[-2:]
    assert browser.get(path, params={"after": "x"}, headers={"Accept": "*/*"}).status_code == 400


def test_sessions_are_listed_with_their_last_step(server, browser):
    (session,) = browser.get("page/api/sessions").json()["sessions"]
    assert session["name"] == SESSION
    assert (session["state"], session["is_active"]) == ("Running", True)
    assert (session["step"], session["loss"]) == (3, pytest.approx(6 / 3 / 3))
    assert (session["grad_norm"], session["learning_rate"]) == (1.5, 1e-3)
    assert (session["waiting"], session["waiting_by_operation"]) == (0, {})
    assert SESSION in browser.get("page/sessions").text


def test_a_session_has_curves_checkpoints_and_settings(server, browser):
    path = SESSION_PAGE.replace("page/", "page/api/")
    assert browser.get(path).json()["checkpoints"] == []
    series = browser.get(f"{path}/metrics").json()["series"]
    assert series["train_loss"] == [[step, pytest.approx(2 / step)] for step in (1, 2, 3)]
    newer = browser.get(f"{path}/metrics", params={"after": 2}).json()["series"]
    assert newer == {"train_loss": series["train_loss"][2:], "grad_norm": [[3, 1.5]],
                     "learning_rate": [[3, 1e-3]]}  # fmt: skip
    text = browser.get(SESSION_PAGE).text
    assert "lora_config.alpha" in text
    for unknown in ("page/sessions/local/x", "page/sessions/x/" + SESSION):
        response = browser.get(unknown)
        assert response.status_code == 404
        assert response.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        ("queued", None, "Queued"),
        ("succeeded", "it was completed", "Completed"),
        ("failed", "the server was restarted", "Failed"),
        ("failed", "expired: it had no request", "Expired"),
    ],
)
def test_the_state_of_a_session_is_that_of_its_record(state, reason, shown):
    with (
        serve(engine="instant") as running,
        httpx.Client(base_url=running.url, **PLAIN_HTTP) as client,
    ):
        client.get(running.page_link())
        add_session(running, state=state, reason=reason, scope="birds")
        (session,) = client.get("page/api/sessions").json()["sessions"]
        assert (session["state"], session["reason"], session["project"]) == (shown, reason, "birds")
        code = shown_code(client, f"page/sessions/birds/{SESSION}")
        assert list(code) == ["curl"]  # this library's own clients reach the project local alone
        assert "/api/projects/birds/" in code["curl"]


def test_the_log_continues_at_an_offset(server, browser):
    path = f"page/api/{job_path(server, server.job)}/log"
    log = browser.get(path).json()
    assert "step" in log["text"]
    assert browser.get(path, params={"offset": log["offset"]}).json()["text"] == ""


@pytest.mark.parametrize("is_base", [False, True])
def test_a_chat_is_streamed_by_the_tuned_model_and_its_base(server, browser, is_base):
    scope = job_path(server, server.job).split("/")[1]
    body = {
        "deployment": f"{scope}/perch",
        "messages": [{"role": "user", "content": f"{MARKUP} 7"}],
        "base": is_base,
    }
    response = browser.post("page/api/chat", json=body, headers={"Origin": server.url})
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = [
        json.loads(line[6:])
        for line in response.text.splitlines()
        if line[6:] not in ("", "[DONE]")
    ]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert ("was not fine-tuned" in text) == is_base
    assert ("answer 7" in text) != is_base
    assert chunks[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"deployment": "x/none"}, 404),
        ({"deployment": ""}, 400),
        ({"temperature": 9}, 400),
        ({"messages": 1}, 400),
    ],
)
def test_a_chat_that_cannot_be_answered_has_a_json_error(server, browser, change, status):
    scope = job_path(server, server.job).split("/")[1]
    body = {
        "deployment": f"{scope}/perch",
        "messages": [{"role": "user", "content": "x"}],
        **change,
    }
    headers = {"Origin": server.url, "Accept": "application/json"}
    response = browser.post("page/api/chat", json=body, headers=headers)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_an_unknown_job_is_a_page_for_browsers_and_json_for_scripts(browser):
    page = browser.get("page/jobs/x/y")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    script = browser.get("page/api/jobs/x/y", headers={"Accept": "application/json"})
    assert (script.status_code, script.json()["error"]["code"]) == (404, "ResourceNotFound")


def test_a_running_job_is_cancelled_from_the_page():
    with serve(engine="instant", control=True) as running:
        name = running.control.add_job("Running", progress=0.4)
        with httpx.Client(
            base_url=running.url, headers={**HTML, "Origin": running.url}, **PLAIN_HTTP
        ) as browser:
            browser.get(running.page_link())
            path = job_path(running, name)
            job = browser.get(f"page/api/{path}").json()["job"]
            assert (job["state"], job["is_active"]) == ("Running", True)
            assert browser.post(f"page/api/{path}/cancel").json()["job"]["state"] in (
                "CancelRequested",
                "Canceled",
            )
            running.control.advance(60)
            assert browser.get(f"page/api/{path}").json()["job"]["state"] == "Canceled"
            assert browser.post(f"page/api/{path}/explode").status_code == 404
        assert not list(running.requests)  # the page is not part of what a test has sent


def test_an_empty_server_says_what_to_do():
    with (
        serve(engine="instant") as running,
        httpx.Client(base_url=running.url, headers=HTML, **PLAIN_HTTP) as browser,
    ):
        browser.get(running.page_link())
        for view, command in (
            ("", "maas-client fine-tune train.jsonl"),
            ("page/sessions", "maas-client serve --engine peft"),
            ("page/data", "maas-client datasets upload"),
            ("page/models", "maas-client fine-tune train.jsonl"),
            ("page/deployments", "maas-client deployments create"),
            ("page/playground", "maas-client deployments create"),
        ):
            text = browser.get(view).text
            assert command in text
            assert running.url in text
            assert "simulated" in text


# -- code ---------------------------------------------------------------------------------------------


def shown_code(browser, path):
    template = re.search(r"<template>(.*?)</template>", browser.get(path).text, re.S)
    return {tab["title"]: tab["code"] for tab in json.loads(template[1])}


def run_code(title, code, capsys):
    """Run a snippet as its reader would, and return what it prints."""
    if title == "Python":
        exec(compile(code, "snippet", "exec"), {})
    elif title == "Command line":
        commands = [line for line in code.splitlines() if not line.startswith("#")]
        assert [main(shlex.split(command)[1:]) for command in commands] == [0]
    else:
        command = code.replace("curl -sS", "curl -sSf")  # fail for an error of the server
        result = subprocess.run(["sh", "-ec", command], capture_output=True, text=True)
        assert result.returncode == 0, (code, result.stderr)
        print(result.stdout)
    return capsys.readouterr().out


EXPECTED = {
    "": "phi-3-mini",
    "page": "loss",
    "page/sessions": SESSION,
    "page/deployments": "perch",
    "page/models": "-model",
}
"""A part of what the code of a view prints."""


def test_the_code_of_every_view_runs_and_has_no_key(server, browser, capsys, monkeypatch):
    monkeypatch.setenv("MAAS_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    data = re.search(r'href="(/page/data/data/[^"]+)"', browser.get("page/data").text)
    jobs = [f"page/{job_path(server, name)}" for name in (server.job, server.foundry_job)]
    paths = [
        "",
        "page/sessions",
        SESSION_PAGE,
        "page/data",
        data[1],
        "page/models",
        "page/deployments",
        *jobs,
    ]
    views = {path: shown_code(browser, path) for path in paths}
    chat = {
        "deployment": f"{job_path(server, server.job).split('/')[1]}/perch",
        "temperature": 0,
        "max_tokens": 50,
        "messages": [
            {"role": "system", "content": 'it\'s "so" $HOME `id`'},
            {"role": "user", "content": f"{MARKUP} 7"},
        ],
    }
    tabs = browser.post("page/api/code", json=chat, headers={"Origin": server.url}).json()["code"]
    views["chat"] = {tab["title"]: tab["code"] for tab in tabs}
    for path, code in views.items():
        assert list(code) == ["Python", "Command line", "curl"], path
        for title, text in code.items():
            assert KEY not in text
            assert server.url in text
            if title == "curl" and shutil.which("curl") is None:
                continue
            output = run_code(title, text, capsys)
            if path == "chat" and title == "curl":
                choices = [
                    c
                    for frame in re.findall(r"data: (\{.*\})", output)
                    for c in json.loads(frame)["choices"]
                ]
                output = "".join(choice["delta"].get("content", "") for choice in choices)
            expected = "" if title == "curl" else EXPECTED.get(path.partition("/jobs/")[0], "")
            expected = "answer 7" if path == "chat" else expected
            assert expected in output, (path, title)


def test_code_for_another_workspace_is_curl_alone(server, browser):
    """The clients of this library have one workspace on a local server."""
    path = job_path(server, server.job)
    store = server._server.services.store
    record = store.read.get("job", path.split("/")[1], path.split("/")[2])
    moved = {
        **record.body,
        "workspace": {"subscription": "s", "resource_group": "rg", "name": "team"},
    }
    with store.write() as writer:
        writer.put("job", path.split("/")[1], "moved", {**moved, "name": "moved"}, "Completed")
    try:
        code = shown_code(browser, f"page/jobs/{path.split('/')[1]}/moved")
    finally:
        with store.write() as writer:
            writer.delete("job", path.split("/")[1], "moved")
    assert list(code) == ["curl"]
    assert "/resourceGroups/rg/" in code["curl"]


# -- maas-client open -----------------------------------------------------------------------------------


def test_open_makes_a_link_for_a_running_server(server, capsys, monkeypatch):
    monkeypatch.setenv("MAAS_API_KEY", KEY)
    assert main(["open", "--no-browser", "--url", server.url]) == 0
    link = capsys.readouterr().out.strip()
    assert link.startswith(f"{server.url}/?token=")
    assert httpx.get(link, headers=HTML, **PLAIN_HTTP).status_code == 303


def test_open_starts_the_browser(server, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    monkeypatch.setenv("MAAS_API_KEY", KEY)
    monkeypatch.setenv("DISPLAY", ":0")
    assert main(["open", "--url", server.url, "--json"]) == 0
    assert opened == [json.loads(capsys.readouterr().out)["url"]]


def test_open_finds_the_server_of_a_state_directory(tmp_path, capsys):
    with serve(engine="instant", state_dir=tmp_path, api_key=KEY) as running:
        assert main(["open", "--no-browser", "--state-dir", str(tmp_path)]) == 0
        link = capsys.readouterr().out.strip()
        assert link.startswith(running.url)
        assert httpx.get(link, headers=HTML, **PLAIN_HTTP).status_code == 303


def test_open_says_what_is_wrong(server, free_port):
    record = ServerRecord(server.url)
    with pytest.raises(AuthError, match="does not accept the key"):
        new_page_link(record)
    with pytest.raises(TransportError, match=r"cannot connect .*refused"):
        new_page_link(replace(record, url=f"http://127.0.0.1:{free_port}"))


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("http://127.0.0.1:99999", "k", "is not the address of a server"),
        ("tickets", "k", "is not the address of a server"),
        ("http://example.com", "", "no key is given"),
        ("http://127.0.0.1:1", "secret\nkey", "MAAS_API_KEY cannot be used as a key"),
    ],
)
def test_open_checks_the_address_and_the_key(monkeypatch, capsys, url, key, message):
    monkeypatch.setenv("MAAS_API_KEY", key)
    assert main(["open", "--no-browser", "--url", url]) == 1
    err = capsys.readouterr().err
    assert (message in err, "secret" in err) == (True, False)


@pytest.mark.parametrize(
    "answer", [(404, b"{}"), (200, b"{}"), (200, b"[1]"), (200, b"\xff"), (200, b"[" * 60_000)]
)
def test_open_of_a_server_without_a_page(monkeypatch, answer):
    monkeypatch.setattr("maas_client._local_server.probe._send", lambda *_: answer)
    with pytest.raises(UnsupportedError, match="has no page"):
        new_page_link(ServerRecord("http://127.0.0.1:1"))


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_cookies_of_other_servers_on_this_host_do_not_hide_the_cookie(server, browser):
    (own,) = browser.cookies.items()
    header = f'prefs={{"a": 1}}; a b=c; {"=".join(own)}; broken'
    assert without_cookie(server, "/page/data", Cookie=header).status_code == 200


@pytest.mark.parametrize(
    "name", ["absent.js", "..%2fapp.py", "%2e%2e/app.py", "%00", "", "a" * 300]
)
def test_a_file_that_the_page_does_not_have_is_404(server, name):
    assert without_cookie(server, f"/page/static/{name}").status_code == 404


@pytest.mark.parametrize("number", ["--5", "-", "1e3", "9" * 16, "%D9%A3"])
def test_a_place_in_a_list_that_is_no_number_is_400(browser, number):
    assert browser.get(f"/page/api/jobs?before={number}").status_code == 400


@pytest.mark.parametrize(
    "messages", [None, ["a"], [{}], [{"role": "user"}], [{"role": 1, "content": "a"}],
                 [{"role": "user", "content": "\ud800"}]],
)  # fmt: skip
def test_code_for_messages_that_are_no_texts_is_400(server, browser, messages):
    deployment = browser.get("/page/api/deployments").json()["deployments"][0]["id"]
    body = json.dumps({"deployment": deployment, "messages": messages})
    response = browser.post("/page/api/code", content=body, headers={"Origin": server.url})
    assert response.status_code == 400


def test_the_page_and_its_code_work_over_tls(tmp_path, capsys):
    with serve(engine="instant", tls=True, state_dir=tmp_path) as running:
        ca_file = str(tmp_path / "ca.pem")
        link = new_page_link(ServerRecord(running.url, ca_file=ca_file))
        with pytest.raises(TransportError, match="certificate verify failed"):
            new_page_link(ServerRecord(running.url))
        context = ssl.create_default_context(cafile=ca_file)
        with httpx.Client(
            base_url=running.url, headers=HTML, verify=context, trust_env=False
        ) as browser:
            assert "Secure" in browser.get(link).headers["set-cookie"]
            code = shown_code(browser, "/")
        assert code["Command line"].startswith(f"SSL_CERT_FILE={ca_file} maas-client jobs list")
        run_code("Python", code["Python"], capsys)
        if shutil.which("curl"):
            assert json.loads(run_code("curl", code["curl"], capsys))["value"] == []
