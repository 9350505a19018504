"""The audit becomes a chain: each row carries the hash of all before it, per tenant."""

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver's own call takes many statements at once; SQLAlchemy's takes one.
    connection = op.get_bind().connection.driver_connection
    for file in sorted(Path(__file__).with_suffix("").glob("*.sql")):
        await_only(connection.execute(file.read_text(encoding="utf-8")))
