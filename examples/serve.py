"""An HTTP service that finds actions in the videos and feature files that it is sent.

It needs ``pip install 'stale-edge[service]'``. Start it with ``python examples/serve.py``, ask it with::

    curl --data-binary @examples/washing_a_car.mp4 http://127.0.0.1:8000/detect/washing_a_car.mp4
    curl --data-binary @feats.npy 'http://127.0.0.1:8000/detect/feats.npy?prompt=Long+jump&prompt=Archery&duration_s=60'
    curl http://127.0.0.1:8000/health

and stop it with Ctrl-C. It has neither encryption nor passwords, so only this machine can reach it, unless ``--host``
says otherwise; then put a proxy that has both, such as nginx, in front of it.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from stale_runtime import EncodedPrompts, Localizer, StaleError, Timeline, VideoDetections, is_video, read_prompts

HERE = Path(__file__).parent
MOST_BYTES = 500_000_000
"""Size of a file."""
MOST_PROMPTS = 500
"""Classes of one request."""
MOST_WAITING = 4
"""Requests whose file is being received, waits for its turn or is looked at."""
MOST_CONNECTIONS = 32
HEADERS_S, UPLOAD_S, WORK_S = 10, 120, 600
"""Seconds in which the headers and then the file have to arrive, and that the work may take then."""

T = TypeVar("T")


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Find actions in videos that are sent by HTTP.")
    parser.add_argument("--bundle", type=Path, default=HERE / "bundle", metavar="FOLDER")
    parser.add_argument("--prompts", type=Path, default=HERE / "classes.txt", metavar="FILE", help="default classes")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    given = parser.parse_args()
    try:
        localizer = Localizer.open(given.bundle)
        prompts = localizer.encode_prompts(read_prompts(given.prompts))
    except StaleError as problem:
        sys.exit(f"serve.py: error: {problem}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):  # which uvicorn raises once everything has ended
        make_server(localizer, prompts, given.host, given.port).run()


def make_server(localizer: Localizer, prompts: EncodedPrompts, host: str, port: int) -> uvicorn.Server:
    """A server that is ready to run."""
    finder = Finder(localizer=localizer, prompts=prompts, is_stopping=lambda: server.should_exit)
    config = uvicorn.Config(
        make_app(finder),
        host=host,
        port=port,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        headers=[("Connection", "close")],  # after each answer, so that no connection is kept without a request
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    return server


@dataclass(frozen=True, kw_only=True)
class Finder:
    """One localizer, for all requests."""

    localizer: Localizer
    prompts: EncodedPrompts
    """Of requests that give none."""
    is_stopping: Callable[[], bool]

    def find(self, path: Path, prompts: list[str] | None, duration_s: float | None) -> VideoDetections:
        """Find actions in a file. It takes long, so it has a thread of its own."""
        timeline = Timeline(duration_s=duration_s)
        (outcome,) = self.localizer.detect_many(
            [path], prompts or self.prompts, timeline=timeline, watch=self._limit(time.monotonic() + WORK_S)
        )
        return outcome.result()

    def _limit(self, deadline: float) -> Callable[[Iterable[T], int], Iterator[T]]:
        """What passes the blocks of a video through, until the time is over or the service stops."""

        def watch(blocks: Iterable[T], _: int) -> Iterator[T]:
            for block in blocks:
                if self.is_stopping() or time.monotonic() > deadline:
                    raise HTTPException(503, f"not done after {WORK_S} s, or the service is being stopped")
                yield block

        return watch


def make_app(finder: Finder) -> FastAPI:
    """The service's two addresses."""
    app = FastAPI(title="stale-edge", docs_url=None, redoc_url=None)  # these pages would load scripts from elsewhere
    places, turn = asyncio.Semaphore(MOST_WAITING), asyncio.Lock()

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the service is well, and what it runs."""
        localizer = finder.localizer
        return {"status": "ok", "backend": localizer.backend, "bundle_sha256": localizer.bundle.manifest_sha256}

    @app.post("/detect/{name}")
    async def detect(
        request: Request,
        name: str,
        prompt: Annotated[list[str] | None, Query()] = None,
        duration_s: Annotated[float | None, Query(gt=0, le=1e9)] = None,
    ) -> Response:
        """Find actions in the file that is sent."""
        if not is_video(Path(name)) and Path(name).suffix.lower() not in (".npy", ".npz"):
            raise HTTPException(415, f"{name}: expected the name of a video, or of a .npy or .npz file")
        if prompt is not None and len(prompt) > MOST_PROMPTS:
            raise HTTPException(400, f"{len(prompt)} prompts, expected at most {MOST_PROMPTS}")
        if places.locked():
            raise HTTPException(503, f"{MOST_WAITING} requests are being worked on", {"Retry-After": "10"})
        async with places:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"file{Path(name).suffix}"
                try:
                    await receive(request, path)
                    async with turn:
                        video = await asyncio.to_thread(finder.find, path, prompt, duration_s)
                except asyncio.CancelledError as problem:
                    raise HTTPException(503, "the service is being stopped") from problem
                except StaleError as problem:
                    status = 422 if problem.exit_code == 3 else 500  # the file or a prompt is bad, or the service
                    raise HTTPException(status, str(problem).replace(str(path), name)) from problem
        return Response(replace(video, video=Path(name).stem).to_json(), media_type="application/json")

    @app.exception_handler(Exception)
    async def apologise(_: Request, __: Exception) -> JSONResponse:
        """What is not expected is in the log, and not in the answer."""
        return JSONResponse({"detail": "an error of the service; its log says more"}, 500)

    return app


async def receive(request: Request, path: Path) -> None:
    """Write the file that is sent, unless it is too large or takes too long.

    Raises:
        HTTPException: it is or does.
    """
    announced = request.headers.get("Content-Length", "0")  # uvicorn has checked that it is a number
    too_large = HTTPException(413, f"more than {MOST_BYTES:,} bytes, the most that a file may have")
    if int(announced) > MOST_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(UPLOAD_S):
            with open(path, "wb") as file:
                async for piece in request.stream():
                    if file.tell() + len(piece) > MOST_BYTES:
                        raise too_large
                    file.write(piece)
    except TimeoutError as problem:
        raise HTTPException(408, f"the file had not arrived after {UPLOAD_S} s") from problem


class ImpatientProtocol(H11Protocol):
    """HTTP, but a connection on which no request arrives is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self.loop.call_later(HEADERS_S, self.close_if_silent)

    def close_if_silent(self) -> None:
        """Close the connection if its first request has not arrived."""
        if not self.cycle:
            self.transport.close()


if __name__ == "__main__":
    main()
