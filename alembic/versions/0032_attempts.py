"""When attempts began, by the one clock that all workers share."""

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    for file in sorted(Path(__file__).with_suffix("").glob("*.sql")):
        await_only(connection.execute(file.read_text(encoding="utf-8")))
