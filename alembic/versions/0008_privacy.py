"""Retention by plan, masked views by tenant, and months that are dropped whole."""

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver's own call takes many statements at once; SQLAlchemy's takes one.
    connection = op.get_bind().connection.driver_connection
    for file in sorted(Path(__file__).with_suffix("").glob("*.sql")):
        await_only(connection.execute(file.read_text(encoding="utf-8")))
