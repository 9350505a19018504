"""Brings the schema up to date, as its owner, once, whoever else starts at the same moment."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

# alembic.ini stands beside the packages, in a checkout as in the image.
_INI = Path(__file__).parents[2] / "alembic.ini"
# Any number that no other program on the same database uses for this.
_LOCK = 0x626F7479617264


async def migrate(owner_url: str, *, grant_to: str) -> str:
    """Upgrade to the newest revision and let the login role `grant_to` use it; return it."""
    engine = create_async_engine(owner_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_upgrade)
            quoted = engine.dialect.identifier_preparer.quote(grant_to)
            await connection.execute(text(f"GRANT botyard_app TO {quoted}"))
    finally:
        await engine.dispose()
    return newest()


def newest() -> str:
    """The revision that this code needs."""
    return ScriptDirectory.from_config(Config(str(_INI))).get_current_head() or ""


def role_of(url: str) -> str:
    """The login role in a database URL."""
    return make_url(url).username or ""


def _upgrade(connection: Connection) -> None:
    config = Config(str(_INI))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
