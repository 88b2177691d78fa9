"""A page of the studies in a folder, live, with their reports; for this machine alone unless there is a token."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rslwm.play.server import POLICY, STATIC, STYLE, Doors, listener, loopback, needs
from rslwm.study.runs import REPORT, StudyFolder, studies
from rslwm.types import DataError

PAGES = STATIC / "studies"
COOKIE = "rslwm-runs"
OWN = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
STRANGERS = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; font-src data:; frame-ancestors 'none'; base-uri 'none'"
)
"""What a report may do, which came with a folder and holds scripts: nothing but show itself."""


def described(root: Path, folder: Path) -> dict[str, Any]:
    """A study as the page shows it; its reports by their place below ``folder``."""
    study = StudyFolder.read(root)
    wanted = study.wanted
    running = [stage for stage in wanted if stage.state == "running"]
    return {
        "name": root.relative_to(folder).as_posix() if root != folder else root.name,
        "state": study.state,
        "preset": study.preset,
        "spaces": study.spaces,
        "seeds": study.seeds,
        "done": sum(stage.done for stage in wanted),
        "total": len(wanted),
        "seconds": sum(stage.record.seconds for stage in wanted if stage.record),
        "bytes": sum(stage.bytes for stage in study.stages),
        "changed": study.when.isoformat(timespec="seconds"),
        "commands": study.commands,
        "running": [{"stage": f"{s.planned.kind} {s.planned.label}", "how": s.why} for s in running],
        "failed": [
            {"stage": f"{s.planned.kind} {s.planned.label}", "how": s.why}
            for s in wanted
            if s.state in ("failed", "damaged")
        ],
        "reports": [
            {"at": f"report/{quote(page.relative_to(folder).as_posix())}", "of": page.parent.parent.name}
            for page in study.reports
        ],
    }


def readable(folder: Path, name: str) -> Path | None:
    """The report that a name below the folder means: only the page of a study that is listed, wherever links lead."""
    wanted = folder / name
    if not name.endswith(REPORT) or not wanted.resolve().is_relative_to(folder.resolve()):
        return None
    return wanted if any(wanted in StudyFolder.read(root).reports for root in studies(folder)) else None


def application(folder: Path, token: str = "") -> Any:
    """The ASGI application."""
    routing, answers = needs("starlette.routing"), needs("starlette.responses")
    threads = needs("starlette.concurrency").run_in_threadpool
    doors = Doors(token)

    def host_known(request: Any) -> bool:
        """Another site may have this machine called by a name of its own; it isn't let in without a token."""
        return bool(token) or loopback(request.url.hostname or "")

    def invited(request: Any) -> bool:
        return host_known(request) and doors.knows(request.cookies.get(COOKIE, ""))

    def file(path: Path, kind: str) -> Any:
        async def serve(request: Any) -> Any:
            return answers.Response(path.read_bytes(), media_type=kind, headers=OWN)

        return serve

    async def enter(request: Any) -> Any:
        """The token comes in the body, as in no log of a server or history of a browser; it stays as a cookie."""
        given = (await request.body())[:1000].decode(errors="replace")
        if not (host_known(request) and doors.knows(given)):
            return answers.Response(status_code=403)
        answer = answers.Response(status_code=204)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    def found() -> list[dict[str, Any]]:
        return [described(root, folder) for root in studies(folder)]

    async def listed(request: Any) -> Any:
        if not invited(request):
            return answers.Response(status_code=403)
        try:
            return answers.JSONResponse({"folder": str(folder), "studies": await threads(found)}, headers=OWN)
        except DataError as error:
            return answers.JSONResponse({"error": str(error)}, status_code=500, headers=OWN)

    async def report(request: Any) -> Any:
        if not invited(request):
            return answers.Response(status_code=403)
        page = await threads(readable, folder, request.path_params["name"])
        if page is None:
            return answers.Response("no such report", status_code=404, headers=OWN)
        return answers.FileResponse(page, headers={**OWN, "Content-Security-Policy": STRANGERS})

    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    pages = {"/": PAGES / "index.html", "/report.css": STYLE}
    pages |= {f"/{path.name}": path for path in PAGES.iterdir() if path.suffix in (".js", ".css")}
    routes = [routing.Route(url, file(path, kinds[path.suffix])) for url, path in pages.items()]
    routes += [routing.Route("/enter", enter, methods=["POST"]), routing.Route("/studies.json", listed)]
    routes += [routing.Route("/report/{name:path}", report)]
    return needs("starlette.applications").Starlette(routes=routes)


def server(folder: Path, token: str = "") -> Any:
    """What serves a listening socket: ``server.run(sockets=[...])``, until ``should_exit``."""
    uvicorn = needs("uvicorn")
    config = uvicorn.Config(
        application(folder, token), log_level="warning", lifespan="off", timeout_graceful_shutdown=1,
        server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)


@contextmanager
def serving(folder: Path, token: str = "") -> Iterator[str]:
    """A server of this process, at any free port of this machine: its ``host:port``."""
    listening, found = listener("127.0.0.1", 0, token), server(folder, token)
    thread = threading.Thread(target=found.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        found.should_exit = True
        thread.join()
        listening.close()
