"""Roles on MySQL and MariaDB: rights on the lab's schemas, one by one, so that no lab with a longer prefix is meant."""

from __future__ import annotations

import contextlib
import re

from datajoint.errors import AccessError, DataJointError

from labweave.database.declare import BESIDE, find_labs
from labweave.database.rights import Rights
from labweave.errors import AccessDenied, ConfigError, LabweaveError

READ = "select, show view"
RIGHTS = {"reader": READ, "scientist": f"{READ}, insert, update, delete, references", "admin": "all privileges"}


class MySQLRights(Rights):
    """Rights of accounts, ``user@host``."""

    def name_of(self, user):
        name, at, host = user.rpartition("@")
        name, host = (name, host) if at else (user, "%")
        return f"{super().name_of(name)}@{host if host == '%' else super().name_of(host.replace('%', '')) and host}"

    def people(self):
        rows = self.connection.query(
            "select concat(user, '@', host), drop_priv, insert_priv, select_priv from mysql.db where db = %s",
            (_escaped(f"{self.prefix}session"),),
        ).fetchall()
        found = {}
        for user, drop, insert, select in rows:
            role = "admin" if drop == "Y" else "scientist" if insert == "Y" else "reader" if select == "Y" else None
            if role:
                found[user] = role
        return found

    def user_exists(self, user):
        name, _, host = user.rpartition("@")
        try:
            sql = "select 1 from mysql.user where user = %s and host = %s"
            return bool(self.connection.query(sql, (name, host)).fetchall())
        except AccessError:  # an admin of the lab only: the server looks itself
            return True

    def create_user(self, user, password):
        return f"create user {self._account(user).replace('%', '%%')} identified by %s", (password,)

    def grant(self, role, user):
        to = f"to {self._account(user)}"
        end = " with grant option" if role == "admin" else ""
        statements = [f"grant {RIGHTS[role]} on {name}.* {to}{end}" for name in self._names(role)]
        if role == "admin":
            statements.append(f"grant select on mysql.db {to}{end}")
        if role != "reader":
            own = user.rpartition("@")[0] + "_"
            for lab in {self.prefix, *find_labs(self.connection)}:
                if own.startswith(lab) or lab.startswith(own):
                    raise ConfigError(
                        f"Schemas of {user}'s own would begin with {own}, as those of the lab {lab} do. Use an account "
                        "of another name."
                    )
            grant = f"grant all privileges on `{_escaped(own)}%`.* {to}"
            statements.append(grant if self._is_server_admin() else f"-- for the server's administrator: {grant}")
        return statements

    def revoke(self, role, user):
        name, _, host = user.rpartition("@")
        held = self.connection.query(
            "select db, grant_priv from mysql.db where user = %s and host = %s", (name, host)
        ).fetchall()
        ours = {_escaped(schema) for schema in self._every_name()}
        statements = []
        for db, grants in held:
            if db in ours:
                statements.append(f"revoke all privileges on `{db}`.* from {self._account(user)}")
                statements += [f"revoke grant option on `{db}`.* from {self._account(user)}"] * (grants == "Y")
        is_admin_elsewhere = any(grants == "Y" and db not in ours for db, grants in held)
        if role == "admin" and not is_admin_elsewhere:
            statements += [
                f"revoke {right} on mysql.db from {self._account(user)}" for right in ("select", "grant option")
            ]
        return statements

    def renew(self):
        with contextlib.suppress(AccessError):  # of somebody who may not see the rights of others, and so give none
            return [
                statement
                for user, role in self.people().items()
                for statement in self.grant(role, user)
                if "mysql.db" not in statement and "%`" not in statement
            ]
        return []

    def holds(self, role):
        table = f"{self.q(f'{self.prefix}lab')}.{self.q('lab')}"
        tried = {  # rights are looked at first
            "reader": f"select 1 from {table} limit 0",
            "scientist": f"delete from {table} where 1 = 0",
            "admin": f"drop table if exists {self.q(f'{self.prefix}lab')}.{self.q('~none')}",
        }
        try:
            self.connection.query(tried[role])
        except (AccessError, AccessDenied):
            return False
        except (DataJointError, LabweaveError):  # there is no such table yet, which is looked at last
            return True
        return True

    def _account(self, user: str) -> str:
        name, _, host = user.rpartition("@")
        return f"'{name}'@'{host}'"

    def _every_name(self) -> list[str]:
        return [schema + end for end in ("", *BESIDE) for schema in self.schemas]

    def _names(self, role: str) -> list[str]:
        return [f"`{_escaped(schema)}`" for schema in (self._every_name() if role == "admin" else self.schemas)]

    def _is_server_admin(self) -> bool:
        """Whether the user of this connection has rights on schemas of all names, to be given to others."""
        granted = [row[0] for row in self.connection.query("show grants").fetchall() if " ON *.* " in row[0]]
        return any("WITH GRANT OPTION" in grant and re.search("ALL PRIVILEGES|CREATE,", grant) for grant in granted)


def _escaped(schema: str) -> str:
    """Return a name as grants take it: in them _ stands for any character."""
    return schema.replace("_", "\\_")
