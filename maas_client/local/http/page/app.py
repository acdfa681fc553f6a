"""The page's routes: HTML from templates, and JSON for what changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import anyio.to_thread
from starlette.exceptions import HTTPException  # noqa: TID253 - only the server imports this module
from starlette.requests import Request  # noqa: TID253 - as above
from starlette.responses import (  # noqa: TID253 - as above
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Mount, Route, Router  # noqa: TID253 - as above
from starlette.staticfiles import StaticFiles  # noqa: TID253 - as above
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: TID253 - as above

from maas_client import _clock
from maas_client._version import __version__
from maas_client.local.http.app import ErrorMiddleware, RequestContext, read_json, url_builder
from maas_client.local.http.page import snippets, views
from maas_client.local.http.page.access import PageAccess
from maas_client.local.http.page.security import LINK, PREFIX, STATIC, PageSecurity, accepts_html
from maas_client.local.http.page.session_views import SessionViews
from maas_client.local.http.page.snippets import Connection, Snippet
from maas_client.local.http.page.views import Views, deployment_row, with_base_model
from maas_client.local.http.routes.chat import create_completion
from maas_client.local.http.security import SecurityPolicy, read_headers
from maas_client.local.resources.deployments import check_ready
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.resources.jobs import JobRef
from maas_client.local.services import Services
from maas_client.local.state.store import Record
from maas_client.types.report import ValidationReport
from maas_client.wire.chat import CHAT_COMPLETE

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

_FOLDER = Path(__file__).parent
_FORWARD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>maas_client</title>'
    '<meta http-equiv="refresh" content="0; url=/"><p><a href="/">Go to the jobs</a></p></html>'
)
_NUMBER = re.compile(r"-?[0-9]{1,15}")


def build_page(services: Services, policy: SecurityPolicy, access: PageAccess, url: str) -> ASGIApp:
    """Return the page as an ASGI application. ``url`` is the server's address for links."""
    page = Page(services, access, url)
    app: ASGIApp = ErrorMiddleware(page.router, page.render_error)
    return _on_clock(PageSecurity(app, policy, access, page.render_error), services)


def _on_clock(app: ASGIApp, services: Services) -> ASGIApp:
    """Let the page of a server for tests show its jobs at the time of their virtual clock."""
    timetable = services.timetable
    if timetable is None:
        return app

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        with _clock.use(timetable.clock):
            await anyio.to_thread.run_sync(timetable.update)
            await app(scope, receive, send)

    return call


class _NavigationLink(NamedTuple):
    path: str
    title: str


_NAVIGATION = (
    _NavigationLink("/", "Jobs"),
    _NavigationLink(PREFIX + "sessions", "Sessions"),
    _NavigationLink(PREFIX + "data", "Data"),
    _NavigationLink(PREFIX + "models", "Models"),
    _NavigationLink(PREFIX + "deployments", "Deployments"),
    _NavigationLink(PREFIX + "playground", "Playground"),
)


class Page:
    """The handlers of the page."""

    def __init__(self, services: Services, access: PageAccess, url: str) -> None:
        self._services = services
        self._views = Views(services)
        self._session_views = SessionViews(services)
        self.access = access
        self._url = url
        get, post = ["GET"], ["POST"]
        self.router = Router(
            [
                Route("/", self.home, methods=get),
                Route(LINK, self.create_link, methods=post),
                Route(PREFIX + "jobs/{scope}/{name}", self.job, methods=get),
                Route(PREFIX + "sessions", self.sessions, methods=get),
                Route(PREFIX + "sessions/{scope}/{name}", self.session, methods=get),
                Route(PREFIX + "data", self.data_sets, methods=get),
                Route(PREFIX + "data/{kind}/{scope}/{key:path}", self.data_set, methods=get),
                Route(PREFIX + "models", self.models, methods=get),
                Route(PREFIX + "deployments", self.deployments, methods=get),
                Route(PREFIX + "playground", self.playground, methods=get),
                Route(PREFIX + "api/jobs", self.api_jobs, methods=get),
                Route(PREFIX + "api/jobs/{scope}/{name}", self.api_job, methods=get),
                Route(PREFIX + "api/jobs/{scope}/{name}/metrics", self.api_metrics, methods=get),
                Route(PREFIX + "api/jobs/{scope}/{name}/log", self.api_log, methods=get),
                Route(PREFIX + "api/jobs/{scope}/{name}/{action}", self.api_action, methods=post),
                Route(PREFIX + "api/sessions", self.api_sessions, methods=get),
                Route(PREFIX + "api/sessions/{scope}/{name}", self.api_session, methods=get),
                Route(
                    PREFIX + "api/sessions/{scope}/{name}/metrics",
                    self.api_session_metrics,
                    methods=get,
                ),
                Route(PREFIX + "api/deployments", self.api_deployments, methods=get),
                Route(PREFIX + "api/chat", self.api_chat, methods=post),
                Route(PREFIX + "api/code", self.api_code, methods=post),
                Route(STATIC + "report.css", _report_style, methods=get),
                Mount(STATIC.rstrip("/"), _Static(directory=_FOLDER / "static")),
            ],
            redirect_slashes=False,
            default=_unknown_path,
        )

    @cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2  # takes longer to import than everything else of the page

        from maas_client.dataset.html_report import format_size

        templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.filters |= {
            "count": _count,
            "size": lambda value: "" if value is None else format_size(value),
            "quote": lambda value: quote(str(value), safe=""),
        }
        templates.globals["parts"] = templates.get_template("parts.html").module
        return templates

    def _render(self, template: str, status: int = 200, **context: Any) -> Response:
        html = self._templates.get_template(template).render(
            server=self._views.server(),
            navigation=_NAVIGATION,
            version=__version__,
            url=self._url,
            **context,
        )
        return HTMLResponse(html, status)

    def _connection(self, row: Mapping[str, Any] | None = None) -> Connection:
        connection = Connection(self._url, self._services.config)
        if row is None:
            return connection
        return replace(connection, dialect=row["dialect"], workspace=row.get("workspace"))

    # -- signing in ------------------------------------------------------------------------------

    def home(self, request: Request) -> Response:
        """GET: exchange the token of a link for a cookie; without one, show the jobs."""
        if "token" not in request.query_params:
            return self.jobs(request)
        headers = read_headers(request.scope)
        cookie = (
            self.access.redeem(request.query_params["token"]) if request.method == "GET" else None
        )
        if cookie is None and not self.access.is_signed_in(headers):
            return self._render_access(401, is_used_link=True)
        response: Response = RedirectResponse("/", 303)
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            response = HTMLResponse(
                _FORWARD
            )  # browsers redirect another site's click without the cookie
        if cookie is not None:
            self.access.set_cookie(response, cookie, is_secure=request.scope["scheme"] == "https")
        return response

    def create_link(self, request: Request) -> Response:
        """POST: return a new one-time link, for ``maas-client open``. The cookie is no credential here."""
        base = url_builder(request, self._services).arm
        return JSONResponse({"url": self.access.new_link(base)})

    def _render_access(self, status: int, *, is_used_link: bool = False) -> Response:
        return self._render("access.html", status, is_used_link=is_used_link)

    def render_error(self, error: ApiError, scope: Scope) -> Response:
        """Return an error as a page for a browser, else as the API does."""
        if not accepts_html(read_headers(scope)):
            body = {"error": {"code": error.code, "message": error.message}}
            return JSONResponse(
                body, error.status, {"x-ms-error-code": error.code, **error.headers}
            )
        if error.status == 401:
            return self._render_access(401)
        return self._render("error.html", error.status, error=error)

    # -- pages -----------------------------------------------------------------------------------

    def jobs(self, request: Request) -> Response:
        """GET the list of jobs."""
        before = _number(request, "before")
        jobs = self._views.jobs(before or None)
        return self._render(
            "jobs.html",
            path="/",
            jobs=jobs,
            before=before,
            older_than=jobs[-1]["seq"] if len(jobs) == views.PAGE_SIZE else None,
            code=_tabs(snippets.jobs_code(self._connection())),
        )

    def job(self, request: Request) -> Response:
        """GET one job."""
        record = self._job(request)
        job = self._views.job_summary(record)
        others = [other for other in self._views.jobs() if other["id"] != job["id"]]
        return self._render(
            "job.html",
            path="/",
            job=job,
            others=others,
            settings=self._views.settings(record),
            data_sets=self._views.data_of_job(record),
            code=_tabs(snippets.job_code(self._connection(job), job["name"])),
        )

    def sessions(self, request: Request) -> Response:
        """GET the list of training sessions."""
        before = _number(request, "before")
        sessions = self._session_views.sessions(before or None)
        return self._render(
            "sessions.html",
            path=PREFIX + "sessions",
            sessions=sessions,
            before=before,
            older_than=sessions[-1]["seq"] if len(sessions) == views.PAGE_SIZE else None,
            code=_tabs(snippets.sessions_code(self._connection())),
        )

    def session(self, request: Request) -> Response:
        """GET one training session."""
        record = self._session(request)
        session = self._session_views.summary(record)
        code = snippets.session_code(self._connection(), session["project"], session["name"])
        return self._render(
            "session.html",
            path=PREFIX + "sessions",
            session=session,
            settings=self._session_views.settings(record),
            code=_tabs(code),
        )

    def data_sets(self, _: Request) -> Response:
        """GET the list of data sets."""
        return self._list("data", self._views.data_sets(), snippets.data_sets_code)

    def models(self, _: Request) -> Response:
        """GET the list of models."""
        return self._list("models", self._views.models(), snippets.models_code)

    def deployments(self, _: Request) -> Response:
        """GET the list of deployments."""
        return self._list("deployments", self._views.deployments(), snippets.deployments_code)

    def _list(
        self, name: str, rows: list[views.Row], code: Callable[[Connection], list[Snippet]]
    ) -> Response:
        tabs = _tabs(code(self._connection()))
        return self._render(f"{name}.html", path=PREFIX + name, rows=rows, code=tabs)

    def data_set(self, request: Request) -> Response:
        """GET one data set: its report and its first rows."""
        row = self._views.data_set(**request.path_params)
        path: Path | None = row["path"]
        report = self._views.report(path, row["name"]) if path else None
        return self._render(
            "data_set.html",
            path=PREFIX + "data",
            data=row,
            report=_render_report(report) if report else [],
            rows=self._views.first_rows(path) if path else [],
            code=_tabs(
                snippets.data_set_code(
                    self._connection(row), str(row["asset"] or row["name"]), str(row["version"])
                )
            ),
        )

    def playground(self, request: Request) -> Response:
        """GET the playground."""
        return self._render(
            "playground.html",
            path=PREFIX + "playground",
            deployments=self._views.deployments(),
            chosen=request.query_params.get("deployment", ""),
            code=[],
        )

    # -- JSON for what changes ---------------------------------------------------------------------

    def api_jobs(self, request: Request) -> Response:
        """GET the list of jobs."""
        return JSONResponse({"jobs": self._views.jobs(_number(request, "before") or None)})

    def api_job(self, request: Request) -> Response:
        """GET one job with its events after a number."""
        return JSONResponse(self._views.job_updates(self._job(request), _number(request, "after")))

    def api_metrics(self, request: Request) -> Response:
        """GET the points of the charts after a step."""
        after = _number(request, "after", -1)
        return JSONResponse({"series": self._views.metrics(self._job(request), after)})

    def api_log(self, request: Request) -> Response:
        """GET the log from an offset."""
        return JSONResponse(self._views.log(self._job(request), _number(request, "offset")))

    def api_action(self, request: Request) -> Response:
        """POST: cancel, pause or resume a job."""
        record, jobs = self._job(request), self._services.jobs
        ref, scheduler = JobRef(record.body["scope"], record.key), self._services.scheduler
        action = request.path_params["action"]
        if action == "cancel":
            if jobs.cancel(ref) == "CancelRequested":
                scheduler.cancel(ref)
        elif action == "pause":
            if jobs.pause(ref) == "PauseRequested":
                scheduler.pause(ref)
        elif action == "resume":
            jobs.resume(ref)
        else:
            raise not_found(f"Action {action[:40]}")
        return JSONResponse({"job": self._views.job_summary(jobs.get(ref))})

    def api_sessions(self, request: Request) -> Response:
        """GET the list of training sessions."""
        before = _number(request, "before")
        return JSONResponse({"sessions": self._session_views.sessions(before or None)})

    def api_session(self, request: Request) -> Response:
        """GET one training session with its checkpoints."""
        return JSONResponse(self._session_views.updates(self._session(request)))

    def api_session_metrics(self, request: Request) -> Response:
        """GET the points of the charts of a session after a step."""
        record, after = self._session(request), _number(request, "after", -1)
        return JSONResponse({"series": self._session_views.metrics(record, after)})

    def api_deployments(self, request: Request) -> Response:
        """GET the list of deployments."""
        return JSONResponse({"deployments": self._views.deployments()})

    async def api_chat(self, request: Request) -> Response:
        """POST a chat to a deployment, or to the base of its model; the answer is streamed."""
        body = await read_json(request)
        record = await anyio.to_thread.run_sync(self._deployment, body)
        check_ready(record, f"deployment {record.body['name']}")
        context = RequestContext(
            CHAT_COMPLETE, {}, request, self._services, url_builder(request, self._services)
        )
        context.json = {
            name: body[name]
            for name in ("messages", *snippets.CHAT_OPTIONS)
            if body.get(name) is not None
        }
        context.json |= {"stream": True, "stream_options": {"include_usage": True}}
        return await create_completion(
            context, with_base_model(record) if body.get("base") else record
        )

    async def api_code(self, request: Request) -> Response:
        """POST what the playground sends; returns the code that sends it."""
        body = await read_json(request)
        record = await anyio.to_thread.run_sync(self._deployment, body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(map(_is_text_message, messages)):
            raise user_error(
                "messages must be a list of objects with the texts role and content.",
                target="messages",
            )
        row = self._with_workspace(deployment_row(record))
        return JSONResponse({"code": _tabs(snippets.chat_code(self._connection(row), row, body))})

    def _with_workspace(self, row: dict[str, Any]) -> dict[str, Any]:
        workspace = self._views.workspace(str(row["id"]).partition("/")[0])
        return {**row, "workspace": workspace}

    def _job(self, request: Request) -> Record:
        return self._views.job_record(request.path_params["scope"], request.path_params["name"])

    def _session(self, request: Request) -> Record:
        return self._session_views.record(request.path_params["scope"], request.path_params["name"])

    def _deployment(self, body: Mapping[str, Any]) -> Record:
        scope, _, name = str(body.get("deployment") or "").partition("/")
        if not name:
            raise user_error("deployment: Field required", target="deployment")
        return self._views.deployment_record(scope, name)


class _Static(StaticFiles):
    """Files that a browser asks about each time, because an update changes them under the same name."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            raise ApiError(error.status_code, "NotFound", "The page has no such file.") from None

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _render_report(report: ValidationReport) -> list[Markup]:
    from markupsafe import Markup

    from maas_client.dataset.html_report import render_file

    return [Markup(render_file(file)) for file in report.files]  # noqa: S704 - it escapes all text


def _report_style(_: Request) -> Response:
    from maas_client.dataset.html_report import REPORT_STYLE

    return Response(REPORT_STYLE, media_type="text/css", headers={"Cache-Control": "no-cache"})


async def _unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise ApiError(404, "NotFound", "The local server has no such page.")


def _tabs(code: list[Snippet]) -> list[dict[str, str]]:
    return [asdict(snippet) for snippet in code]


def _is_text_message(message: Any) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(name), str) for name in ("role", "content")
    )


def _number(request: Request, name: str, default: int = 0) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not _NUMBER.fullmatch(text):
        raise user_error(f"{name} must be a number.", target=name)
    return int(text)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
