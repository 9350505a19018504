"""What every process answers to whoever watches it: alive, able to serve, figures."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane.access.http import House, house_of
from control_plane.db.session import DATABASE_ERRORS, driver
from control_plane.kit.errors import Unavailable
from control_plane.kit.problems import problem_response


def routes() -> list[Route]:
    """For any application whose state has the house."""
    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]


def only(house: House) -> Starlette:
    """An application that has nothing else."""
    app = Starlette(routes=routes())
    app.state.house = house
    return app


async def healthz(_request: Request) -> Response:
    """Alive."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Able to serve: nobody has asked it to stop, and the database answers."""
    if house_of(request).draining.is_set():
        leaving = Unavailable("draining", "This process is about to stop.", retry_after_s=1)
        return problem_response(leaving)
    try:
        async with house_of(request).database.session() as session:
            await (await driver(session)).fetchval("SELECT 1")
    except DATABASE_ERRORS:
        error = Unavailable(
            "database_unavailable", "The database cannot be reached.", retry_after_s=1
        )
        return problem_response(error)
    return JSONResponse({"status": "ready"})


async def metrics(_request: Request) -> Response:
    """For Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
