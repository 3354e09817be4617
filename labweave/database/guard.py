"""What a query of a person may be: one statement that reads tables, and nothing of the server's machine.

The server refuses writing by itself (a read-only transaction, and rights where it has roles). This says in words, and
before anything is sent, what it would not refuse to its administrator: files, programs, locks and waiting.
"""

from __future__ import annotations

import logging
import re

from labweave.errors import ConfigError

_HARMFUL = re.compile(
    r"pg_(read|ls|write|file|stat_file|sleep|terminate|cancel|reload|rotate|advisory|try_advisory|switch|create|drop|"
    r"replication|logical|promote|wal|backup|start|stop|log_|notify|export|import|current_logfile)\w*"
    r"|lo_\w+|loread|lowrite|dblink\w*|set_config|nextval|setval|\w*_to_xml\w*|ts_stat|ts_rewrite|xpath_table|crosstab\w*"
    r"|load_file|sleep|benchmark|\w*_lock|release_all_locks|sys_\w+|lib_mysqludf\w*|\w*_pos_wait|wait_\w+|\w*executed_gtid\w*"
    r"|source_\w+|service_\w+|keyring_\w+|audit_\w+|statement_digest\w*"
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_EXPLAIN = re.compile(r"\s*explain\s+(?:verbose\s+)?(?=select|with|values|\()", re.IGNORECASE)
_SHOW = re.compile(r"\s*show\s+\w+(?:\.\w+)?\s*;?\s*", re.IGNORECASE)
_ON_MYSQL = re.compile(r"/\*M?!|\b(?:outfile|dumpfile|load_file)\b|:=", re.IGNORECASE)


def check_query(sql: str, product: str) -> None:
    """Refuse what is more, or something else, than one query.

    Parameters
    ----------
    sql : str
    product : {"postgresql", "mysql", "mariadb"}
        Whose dialect it is in.

    Raises
    ------
    ConfigError
        It can't be understood, is no query, or names what reads or writes files, runs programs, locks or waits.

    Examples
    --------
    >>> from labweave.database.guard import check_query
    >>> check_query("select cell, count(*) from recording group by cell", "postgresql")
    >>> check_query("select 1; drop table recording", "mysql")
    Traceback (most recent call last):
    ...
    labweave.errors.ConfigError: The query has 2 statements. Run them one by one.
    """
    import sqlglot
    from sqlglot import expressions as exp

    if (explain := _EXPLAIN.match(sql)) and product == "postgresql":
        sql = sql[explain.end() :]
    if _SHOW.fullmatch(sql) and product == "postgresql":  # sqlglot does not know it
        return
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what is refused below
    dialect = "postgres" if product == "postgresql" else "mysql"
    if dialect == "mysql" and (found := _ON_MYSQL.search(sql)):
        raise ConfigError(f"The query has {found[0]!r}, which is not for reading tables. Leave it out.")
    try:
        statements = [each for each in sqlglot.parse(sql, read=dialect) if each is not None]
    except Exception as error:  # whatever sqlglot raises on such text; it has AttributeErrors of its own
        found = getattr(error, "errors", None) or [{}]
        near = f"{found[0].get('start_context') or ''}{found[0].get('highlight') or ''}"[-60:] or sql.strip()[:60]
        raise ConfigError(f"The query can't be understood at {near!r}. Correct it.") from None
    if len(statements) != 1:
        raise ConfigError(f"The query has {len(statements)} statements. Run them one by one.")
    (tree,) = statements
    if not isinstance(tree, (exp.Query, exp.Values, exp.Show, exp.Describe)):
        raise ConfigError("It is no query: only select, with, values, show and describe read. Use one of them.")
    if found := tree.find(
        exp.Insert,
        exp.Update,
        exp.Delete,
        exp.Merge,
        exp.Create,
        exp.Drop,
        exp.Alter,
        exp.TruncateTable,
        exp.Into,
        exp.Lock,
        exp.Command,
    ):
        raise ConfigError(f"The query would {found.key}; this only reads. Leave {found.sql(dialect)[:60]!r} out.")
    for function in tree.find_all(exp.Func):
        name = (function.name if isinstance(function, exp.Anonymous) else function.sql_name()).lower()
        if _HARMFUL.fullmatch(name) or not _PLAIN.fullmatch(name):
            raise ConfigError(
                f"The query calls {name}(), which does more than reading tables. Leave it out, or use the server's "
                "own program."
            )
