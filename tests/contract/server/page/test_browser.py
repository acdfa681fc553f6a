"""The page in a browser: Debian's chromium, driven by Playwright. Without them these tests are skipped."""

from __future__ import annotations

import asyncio
import json
import re
import shutil

import pytest

from maas_client.local.embedded_server import serve
from maas_client.local.services.chat_engines import ChatChunk
from tests.contract.server.page.test_page import SESSION, SESSION_PAGE, add_session

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the package playwright is not installed"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
)

MARKUP = "<script>alert('x')</script>"
VIEWS = ("", "page/sessions", "page/data", "page/models", "page/deployments", "page/playground")
PIXELS = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colours.add(data.slice(i, i + 3).join());
    return colours.size;
}"""
"""The number of colours on a canvas; 0 for an empty one."""
LOW_CONTRAST = """elements => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const linear = v => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const contrast = element => {
        let behind = element, background = "rgba(0, 0, 0, 0)";
        while (behind && (parse(background)[3] ?? 1) === 0) {
            background = getComputedStyle(behind).backgroundColor;
            behind = behind.parentElement;
        }
        const both = [getComputedStyle(element).color, background].map(text => light(parse(text)));
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    };
    const isText = element => element.checkVisibility() && element.innerText.trim();
    return elements.filter(e => isText(e) && contrast(e) < 4.5).map(e => e.innerText);
}"""
"""The texts with a contrast below 4.5 (WCAG 2, level AA)."""


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        playwright.expect.set_options(timeout=20_000)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with two completed jobs, one of them deployed, and names with markup."""
    data = tmp_path_factory.mktemp("data") / "train.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"{MARKUP} What is {i}?"},
                      {"role": "assistant", "content": f"<img src=x onerror=alert({i})> It is {i}."}]}
        for i in range(60)
    ]  # fmt: skip
    data.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with serve(engine="instant", control=True) as running:
        client = running.client()
        for model in ("Phi-3-mini", "Phi-4-mini-instruct"):
            result = client.fine_tune(
                data, model=model, validation_data=data, deploy=f"perch-{model[4]}"
            )
        services = running._server.services
        job = services.store.read.all("job")[-1]
        with services.store.write() as writer:
            job.body["request"]["properties"]["displayName"] = MARKUP
            writer.put("job", job.body["scope"], job.key, job.body, job.state)
        running.job = f"page/jobs/{job.body['scope']}/{job.key}"
        add_session(running, steps=40)
        assert result.job.succeeded
        yield running


@pytest.fixture
def context(chromium, server):
    """A window that is signed in, of which every error, violated policy and dialog is a failure."""
    problems = []
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(30_000)
    context.on("weberror", lambda error: problems.append(str(error.error)))
    context.on(
        "console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None
    )
    context.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page = context.new_page()
    page.goto(server.page_link())
    assert page.url == f"{server.url}/"
    yield context
    context.close()
    assert problems == []


@pytest.fixture
def page(context):
    return context.pages[0]


def test_a_link_opens_the_page_once(server, chromium):
    context = chromium.new_context()
    page = context.new_page()
    link = server.page_link()
    page.goto(link)
    playwright.expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert "token" not in page.url
    assert page.evaluate("document.cookie") == ""  # HttpOnly
    context.close()
    page = chromium.new_context().new_page()
    page.goto(link)
    playwright.expect(page.get_by_text("maas-client open", exact=True)).to_be_visible()
    page.context.close()


def test_a_click_on_a_link_of_another_site_opens_the_page(server, chromium):
    context = chromium.new_context()
    page = context.new_page()
    terminal = f'<a href="{server.page_link()}">link</a>'
    page.route(
        "http://terminal.example/", lambda r: r.fulfill(body=terminal, content_type="text/html")
    )
    page.goto("http://terminal.example/")
    page.get_by_role("link", name="link").click()
    playwright.expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.url == f"{server.url}/"
    context.close()


def test_a_job_is_followed_to_its_end_without_a_reload(server, page):
    name = server.control.add_job("Running", progress=0.4)
    page.evaluate("window.isSamePage = true")
    row = page.locator("#jobs tr", has_text=name)
    playwright.expect(row.locator(".state")).to_have_text("Running")
    assert 0.3 < float(row.locator("progress").get_attribute("value")) < 0.5
    server.control.advance(3600)
    playwright.expect(row.locator(".state")).to_have_text("Completed")
    playwright.expect(page.locator("#announcement")).to_have_text(
        re.compile(f"{name}.*: Completed")
    )
    assert page.evaluate("window.isSamePage")


def test_a_job_is_cancelled_after_a_question(server, page):
    name = server.control.add_job("Running", progress=0.4)
    page.get_by_role("link", name=name).click()
    playwright.expect(page.locator("#job .state")).to_have_text("Running")
    playwright.expect(page).to_have_title(re.compile(r"^3\d % · "))
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Keep it running").click()
    playwright.expect(page.locator("#job .state")).to_have_text("Running")
    page.get_by_role("button", name="Cancel job").click()
    page.locator("#confirm").get_by_role("button", name="Cancel job").click()
    server.control.advance(60)
    playwright.expect(page.locator("#job .state")).to_have_text("Canceled")
    playwright.expect(page.get_by_role("button", name="Cancel job")).to_be_hidden()


def test_curves_are_drawn_and_compare_jobs(server, page):
    page.goto(f"{server.url}/{server.job}")
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    chart = page.locator("#loss-chart")
    legend = chart.locator(".legend li")
    playwright.expect(legend).to_have_count(2)
    playwright.expect(legend.first).to_contain_text(re.compile(r"training \d"))
    colours = chart.locator("canvas").evaluate(PIXELS)
    assert colours > 10
    assert "Loss by step" in chart.locator("canvas").get_attribute("aria-label")
    page.locator("[name=compare]").last.check()
    playwright.expect(legend).to_have_count(4)
    assert chart.locator("canvas").evaluate(PIXELS) > colours
    chart.locator(".u-over").hover(position={"x": 200, "y": 60})
    playwright.expect(chart.locator(".at")).to_contain_text("step")
    playwright.expect(page.locator("#accuracy-chart")).to_contain_text("computes no accuracy")
    playwright.expect(page.locator("#events li").first).to_contain_text("succeeded")
    deployed = page.locator("#model").get_by_role("link")
    playwright.expect(deployed).to_have_attribute("href", re.compile("/page/playground"))
    page.locator("#log summary").click()
    playwright.expect(page.locator("#log pre")).to_contain_text("train_loss")


def test_sessions_are_followed_without_a_reload(server, page):
    first, second = (SESSION.replace("00c0ffee", part) for part in ("00facade", "00decade"))
    add_session(server, first, steps=40)
    page.get_by_role("link", name="Sessions").click()
    page.evaluate("window.isSamePage = true")
    row = page.locator("#sessions tr", has_text=first)
    playwright.expect(row.locator("[data-field=step]")).to_have_text("40")
    add_session(server, first, steps=41)
    playwright.expect(row.locator("[data-field=step]")).to_have_text("41")
    playwright.expect(row.locator("[data-field=loss]")).to_have_text("0.04878")
    add_session(server, second, steps=0)
    row = page.locator("#sessions tr", has_text=second)
    playwright.expect(row.locator(".state")).to_have_text("Running")
    add_session(server, second, steps=0, state="failed", reason="expired: it had no request")
    playwright.expect(row.locator(".state")).to_have_text("Expired")
    playwright.expect(page.locator("#announcement")).to_have_text(re.compile("Phi-4.*: Expired"))
    assert page.evaluate("window.isSamePage")


def test_the_curves_of_a_session_are_drawn(server, page):
    name = SESSION.replace("00c0ffee", "00ab1e00")
    add_session(server, name, steps=40)
    page.goto(f"{server.url}/{SESSION_PAGE.replace(SESSION, name)}")
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text(f"Phi-4 {MARKUP}")
    for chart in (page.locator("#loss-chart"), page.locator("#norm-chart")):
        playwright.expect(chart.locator(".legend li")).to_contain_text(re.compile(r"training \d"))
        assert chart.locator("canvas").evaluate(PIXELS) > 10
    playwright.expect(page.locator("[data-field=grad_norm]")).to_have_text("20")
    add_session(server, name, steps=44)
    playwright.expect(page.locator("[data-field=step]")).to_have_text("44")
    playwright.expect(page.locator("[data-field=grad_norm]")).to_have_text("22")
    playwright.expect(page.locator("#checkpoints")).to_contain_text("None on disk yet")


def test_accuracy_is_drawn(server, page):
    services = server._server.services
    job = services.store.read.all("job")[0]
    from maas_client.local.state.store import MetricPoint

    points = [
        MetricPoint("valid_token_accuracy", step, "2026-01-01T00:00:00Z", step / 100)
        for step in (0, 30, 60)
    ]
    services.jobs.record_progress(job.body["id"], points, [])
    page.goto(f"{server.url}/page/jobs/{job.body['scope']}/{job.key}")
    playwright.expect(page.locator("#accuracy-chart .legend li")).to_have_text(
        re.compile(r"validation 0\.6")
    )
    assert page.locator("#accuracy-chart canvas").evaluate(PIXELS) > 3


@pytest.fixture
def slow_engine(server, monkeypatch):
    """An engine that writes one word at a time, each when the test permits it."""
    engine = server._server.services.chat_engine
    permits, closed = asyncio.Semaphore(0), []

    async def stream(target, chat):
        try:
            for word in ("one", " two", " three"):
                await permits.acquire()
                yield ChatChunk(text=f"{word} {MARKUP}" if word == "one" else word)
            yield ChatChunk(
                finish_reason="stop",
                usage={"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
            )
        finally:
            closed.append(target.model)

    monkeypatch.setattr(engine, "stream", stream)
    loop = server._server.services._loop
    return (
        lambda count: [loop.call_soon_threadsafe(permits.release) for _ in range(count)]
    ), closed


def test_the_playground_streams_and_stops(server, page, slow_engine):
    permit, closed = slow_engine
    page.goto(f"{server.url}/page/playground")
    page.get_by_label("Compare with the base model").uncheck()
    page.get_by_label("Message").fill("Count.")
    page.get_by_label("Message").press("Enter")
    answer = page.locator("[data-side=tuned] .turn[data-role=assistant]")
    permit(1)
    playwright.expect(answer).to_have_text(f"one {MARKUP}")  # before the answer is complete
    permit(1)
    playwright.expect(answer).to_have_text(f"one {MARKUP} two")
    assert closed == []
    page.get_by_role("button", name="Stop").click()
    playwright.expect(page.locator(".measure")).to_have_text("stopped")
    playwright.expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    page.get_by_label("Message").fill("Again.")
    page.get_by_role("button", name="Send").click()
    permit(3)
    playwright.expect(answer.last).to_have_text(f"one {MARKUP} two three")
    playwright.expect(page.locator(".measure").last).to_contain_text("3 tokens")
    assert len(closed) == 2  # the server stopped the first answer, too


def test_the_playground_compares_base_and_tuned(server, page):
    page.goto(f"{server.url}/page/deployments")
    page.get_by_role("link", name="Try it").first.click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Message").fill(f"{MARKUP} What is 7?")
    page.get_by_label("Message").press("Enter")
    base, tuned = (
        page.locator(f"[data-side={side}] .turn[data-role=assistant]") for side in ("base", "tuned")
    )
    playwright.expect(tuned).to_contain_text("It is 7.")
    playwright.expect(base).to_contain_text("was not fine-tuned")
    playwright.expect(page.locator("#announcement")).to_have_text("The answer is complete.")
    page.get_by_role("button", name="Show code").click()
    code = page.locator("dialog[open] pre")
    playwright.expect(code).to_contain_text("client.chat.stream(")
    playwright.expect(code).to_contain_text("Be brief.")
    page.get_by_role("button", name="Close").click()
    page.get_by_label("Max tokens").fill("1")
    page.get_by_label("Message").fill(f"{MARKUP} What is 8?")
    page.get_by_label("Message").press("Enter")
    playwright.expect(page.locator("[data-side=tuned] .measure").last).to_contain_text(
        "cut at max tokens"
    )


def test_code_is_shown_by_keyboard(context, server, page):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Show code")
    button.focus()
    button.press("Enter")
    dialog = page.get_by_role("dialog")
    tabs = dialog.get_by_role("tab")
    playwright.expect(tabs).to_have_text(["Python", "Command line", "curl"])
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(tabs.nth(1)).to_be_focused()
    playwright.expect(dialog.locator("pre")).to_have_text(re.compile("maas-client jobs list"))
    dialog.get_by_role("button", name="Copy").click()
    assert "maas-client jobs list" in page.evaluate("navigator.clipboard.readText()")
    page.keyboard.press("Escape")
    playwright.expect(dialog).to_be_hidden()
    playwright.expect(button).to_be_focused()


def test_the_tab_key_reaches_everything_in_order(page):
    names = []
    for _ in range(10):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert names[:9] == [
        "Skip to content",
        "maas_client",
        "Jobs",
        "Sessions",
        "Data",
        "Models",
        "Deployments",
        "Playground",
        "Show code",
    ]
    assert names[9]  # the first job
    page.reload()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_colour_schemes(server, page, scheme):
    page.emulate_media(color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    for view in (*VIEWS, server.job, SESSION_PAGE):
        page.goto(f"{server.url}/{view}")
        if view in (server.job, SESSION_PAGE):
            page.locator("#loss-chart canvas").wait_for()
        texts = (
            "h1, h2, p, a, button, th, td, .state, .sub, .soft, .chip, label, dt, dd, .legend li"
        )
        assert page.eval_on_selector_all(texts, LOW_CONTRAST) == [], view


def test_nothing_is_wider_than_a_narrow_screen(server, page):
    page.set_viewport_size({"width": 360, "height": 740})
    data = page.request.get(f"{server.url}/page/data").text()
    data_set = re.search(r'href="/(page/data/data/[^"]+)"', data)[1]
    for view in (*VIEWS, server.job, SESSION_PAGE, data_set):
        page.goto(f"{server.url}/{view}")
        if view in (server.job, SESSION_PAGE):
            page.locator("#loss-chart canvas").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
    page.get_by_role("button", name="Show code").click()
    assert page.locator("dialog[open]").bounding_box()["width"] <= 360


def test_a_data_set_with_markup_is_shown_as_text(server, page):
    page.get_by_role("link", name="Data").click()
    page.get_by_role("link", name="train.jsonl").first.click()
    playwright.expect(page.locator(".message").first).to_contain_text(f"{MARKUP} What is 0?")
    playwright.expect(page.locator("svg[role=img]")).to_be_visible()
    assert page.locator("main img, main script, h1 b").count() == 0


def test_the_page_says_when_the_server_is_gone(chromium):
    server = serve(engine="instant").start()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(server.page_link())
    server.close()
    playwright.expect(page.locator("#connection")).to_have_text(
        re.compile("No answer from the server")
    )
    context.close()
