"""What .ci/run asks of a MariaDB or MySQL server, with labweave's own driver.

python server.py check URL                  can we log in? prints the version
python server.py relax URL                  don't wait for the disk at each commit; prints the settings before
python server.py restore URL FLUSH SYNC     those settings again
"""

import sys
from urllib.parse import unquote, urlsplit

import pymysql

SET = "set global innodb_flush_log_at_trx_commit = %s, global sync_binlog = %s"


def ask(address: str, command: str, before: list[str]) -> str:
    """Do what was asked and return what to print."""
    url = urlsplit(address)
    login = {"user": unquote(url.username or ""), "password": unquote(url.password or "")}
    with pymysql.connect(host=url.hostname, port=url.port or 3306, **login) as server, server.cursor() as cursor:
        if command == "check":
            cursor.execute("select version()")
            return f"server version {cursor.fetchone()[0]}"
        if command == "relax":
            cursor.execute("select @@global.innodb_flush_log_at_trx_commit, @@global.sync_binlog")
            found = cursor.fetchone()
            cursor.execute(SET, (0, 0))
            return " ".join(map(str, found))
        cursor.execute(SET, tuple(map(int, before)))
        return ""


if __name__ == "__main__":
    command, address, *before = sys.argv[1:]
    try:
        print(ask(address, command, before))
    except pymysql.Error as error:
        where = urlsplit(address)
        sys.exit(f"{where.hostname}:{where.port or 3306}: {error}")
