"""Rows of a database, by an SQLAlchemy URL. It is only read from, and secrets stay in the environment."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sparring.errors import UserError, missing_extra, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

URL = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://", re.IGNORECASE)
PREFIX = (
    "SPARRING_"  # of the variables that a URL may name: a stranger's recipe must not send others to a stranger's server
)
VARIABLE = re.compile(r"\$\{(\w+)\}")
SECRETS = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)


def is_database(source: str) -> bool:
    """Whether a source is written as the URL of a database."""
    return bool(URL.match(source))


def read_database(source: str, query: str | None = None) -> DataFrame:
    """The rows of a table, `dialect://user@host/database?table=NAME`, or of a SELECT. Raises UserError.

    `${SPARRING_…}` in the URL stands for a variable of the environment, and is the only way to give a password: what a
    user writes is kept in recipes. Nothing but SELECT is run: a query is made part of one, and the transaction is read-only
    where the database knows such (SQLite, PostgreSQL).
    """
    alchemy = _alchemy()
    try:
        url = alchemy.make_url(source)
    except (alchemy.exc.ArgumentError, ValueError):
        raise UserError(
            f"{source.partition('@')[0] if '@' not in source else 'the URL'}: not the URL of a database; "
            "write dialect://user@host/database?table=NAME"
        ) from None
    wanted = dict(url.query)
    table = wanted.pop("table", None)
    _require_no_secrets(url, wanted)
    if table is not None and query is not None:
        raise UserError(f"{source}: names a table, and data.query another choice: leave one of them out")
    opened = url.set(query={name: _expanded(str(value)) for name, value in wanted.items()}, **{
        part: _expanded(value) for part in ("username", "password", "host", "database") if (value := getattr(url, part))
    })  # fmt: skip
    try:
        engine = _engine(source, opened)
        with engine.connect().execution_options(postgresql_readonly=True) as connection:
            chosen = _selected(source, query) if query is not None else _whole(source, connection, table)
            frame = _pandas().read_sql(chosen, connection)
            connection.rollback()
    except (alchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        raise UserError(f"{source}: {said.replace(opened.password or chr(0), '***')[:200]}") from None
    except ModuleNotFoundError as error:
        raise UserError(f"{source}: needs the driver {error.name!r}, which is not installed: pip install it") from None
    return _steady(frame)


def _alchemy() -> Any:
    try:
        import sqlalchemy
    except ImportError:
        raise missing_extra("sqlalchemy", "table", "reading a database") from None
    return sqlalchemy


def _pandas() -> Any:
    import pandas

    return pandas


def _require_no_secrets(url: Any, wanted: dict[str, Any]) -> None:
    """Raise UserError where a password stands in the URL itself."""
    given = {"password": url.password or "", **{name: str(value) for name, value in wanted.items() if SECRETS.search(name)}}  # fmt: skip
    for name, value in given.items():
        if value and not VARIABLE.fullmatch(value):
            raise UserError(
                f"{url.render_as_string(hide_password=True).partition('?')[0]}: the {name} would be kept in the run folder: put it "
                f"into the environment, and write '${{{PREFIX}DB_PASSWORD}}' in its place, in single quotes"
            )


def _expanded(text: str) -> str:
    """A part of a URL with the variables in it. Raises UserError for one that is not there, or not meant for it."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if not name.startswith(PREFIX):
            raise UserError(f"${{{name}}}: only variables that begin with {PREFIX} may be named in a URL: rename it")
        if name not in os.environ:
            raise UserError(f"${{{name}}}: there is no such variable in the environment: export {name}=…")
        return os.environ[name]

    return VARIABLE.sub(value, text)


def _engine(source: str, url: Any) -> Any:
    alchemy = _alchemy()
    try:
        if url.get_backend_name() != "sqlite":
            return alchemy.create_engine(url, poolclass=alchemy.pool.NullPool)
    except alchemy.exc.NoSuchModuleError:
        raise UserError(f"{source}: {url.drivername} is no kind of database that is installed") from None
    if not url.database or url.database == ":memory:":
        raise UserError(f"{source}: names no file; write sqlite:///people.db?table=NAME, four slashes for a full path")
    path = Path(url.database).expanduser()
    if not path.is_file():  # which SQLite would make
        there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{source}: no such file{nearest(path.name, there)}; is the path right?")
    return alchemy.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True),
        poolclass=alchemy.pool.NullPool,
    )


def _whole(source: str, connection: Any, table: str | None) -> Any:
    """A SELECT of all that a table holds: the named one, or the only one."""
    alchemy = _alchemy()
    schema, _, name = (table or "").rpartition(".")
    inspector = alchemy.inspect(connection)
    there = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
    if not table and len(there) == 1:
        name = there[0]
    elif name not in there:
        shown = ", ".join(sorted(there)[:20]) or "none"
        asked = f"has no table {table!r}{nearest(name, there)}" if table else "which table? Add ?table=NAME to the URL"
        raise UserError(f"{source}: {asked}; it has {shown}")
    return alchemy.select(alchemy.text("*")).select_from(alchemy.table(name, schema=schema or None))


def _selected(source: str, query: str) -> Any:
    """A query as a part of a SELECT, where nothing but a SELECT can stand."""
    alchemy = _alchemy()
    asked = query.strip().rstrip(";").rstrip()
    if ";" in asked or not re.match(r"(select|with)\b", asked, re.IGNORECASE):
        raise UserError(f"{source}: data.query must be one SELECT, which is all that is run, not {asked[:60]!r}")
    escaped = asked.replace(":", r"\:")  # no parameters
    return alchemy.select(alchemy.text("*")).select_from(alchemy.text(f"(\n{escaped}\n) chosen"))


def _steady(frame: DataFrame) -> DataFrame:
    """The rows in an order of their own: a database promises none, and the same rows are to be the same data."""
    order = _pandas().util.hash_pandas_object(frame, index=False).to_numpy().argsort(kind="stable")
    return frame.iloc[order].reset_index(drop=True)
