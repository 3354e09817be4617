"""Roles on PostgreSQL: roles of the server. The one of admins owns schemas and tables."""

from __future__ import annotations

from psycopg2.extensions import encrypt_password

from labweave.database.reads import among
from labweave.database.rights import ROLES, Rights

_OWN = """do $$ declare found record; begin
    for found in
        select 1 as step, format('alter schema %I owner to %I', nspname, '{owner}') as sql
        from pg_namespace where nspname in ({schemas}) and nspowner::regrole::text <> '{owner}'
        union all
        select 2, format('alter %s %I.%I owner to %I', case c.relkind when 'v' then 'view' else 'table' end,
                         n.nspname, c.relname, '{owner}')
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ({schemas}) and c.relkind in ('r', 'p', 'v') and c.relowner::regrole::text <> '{owner}'
        union all
        select 2, format('alter type %I.%I owner to %I', n.nspname, t.typname, '{owner}')
        from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where n.nspname in ({schemas}) and t.typtype = 'e' and t.typowner::regrole::text <> '{owner}'
        order by 1
    loop execute found.sql; end loop;
end $$"""


class PostgreSQLRights(Rights):
    """Memberships in ``<prefix>reader``, ``<prefix>scientist`` and ``<prefix>admin``."""

    def people(self):
        names = {f"{self.prefix}{role}": role for role in ROLES}
        rows = self.connection.query(
            "select m.rolname, r.rolname from pg_auth_members a join pg_roles r on r.oid = a.roleid"
            f" join pg_roles m on m.oid = a.member where {among('r.rolname', ROLES)}",
            tuple(names),
        ).fetchall()
        found: dict[str, str] = {}
        for user, role in rows:
            if user not in names:
                found[user] = max(names[role], found.get(user, "reader"), key=ROLES.index)
        return found

    def user_exists(self, user):
        return bool(self.connection.query("select 1 from pg_roles where rolname = %s", (user,)).fetchall())

    def create_user(self, user, password):
        hashed = encrypt_password(password, user, scope=self.connection._conn, algorithm="scram-sha-256")
        return f"create role {self.q(user)} login password %s", (hashed,)

    def grant(self, role, user):
        further = " with admin option" if role == "admin" else ""
        return [*self._roles(), *self._tables(), f"grant {self._role(role)} to {self.q(user)}{further}"]

    def revoke(self, role, user):
        return [f"revoke {self._role(role)} from {self.q(user)}"]

    def renew(self):
        return self._tables() if self.user_exists(f"{self.prefix}admin") else []

    def holds(self, role):
        right = {"reader": "select", "scientist": "insert"}.get(role)
        if right:
            sql = f"select has_table_privilege(c.oid, '{right}') from pg_class c"
            sql += " join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = 'lab'"
        else:
            sql = "select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = %s"
        row = self.connection.query(sql, (f"{self.prefix}lab",)).fetchone()
        if row is None:  # the lab is still to be made
            row = self.connection.query("select has_database_privilege(current_database(), 'create')").fetchone()
        return bool(row[0])

    def _role(self, role: str) -> str:
        return self.q(f"{self.prefix}{role}")

    def _roles(self) -> list[str]:
        """Return what makes the roles; nothing where they are there."""
        reader, scientist, admin = (self._role(role) for role in ROLES)
        if self.user_exists(f"{self.prefix}admin"):
            return []
        database = self.q(self.connection.query("select current_database()").fetchone()[0])
        return [
            *(f"create role {role} nologin" for role in (reader, scientist, admin)),
            f"grant {reader} to {scientist}",
            f"grant {reader}, {scientist} to {admin} with admin option",
            f"grant connect on database {database} to {reader}",
            f"grant create, temporary on database {database} to {scientist}",
        ]

    def _tables(self) -> list[str]:
        """Return what gives the tables that are there to the roles; nothing where all are admin's."""
        names = tuple(self.schemas)
        there = [
            row[0]
            for row in self.connection.query(
                f"select nspname from pg_namespace where {among('nspname', names)} order by nspname", names
            )
        ]
        owner = f"{self.prefix}admin"
        strays = self.connection.query(
            "select 1 from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relkind in ('r','p','v')"
            f" where {among('n.nspname', names)} and (n.nspowner::regrole::text <> %s"
            " or c.relowner::regrole::text <> %s) limit 1",
            (*names, owner, owner),
        ).fetchall()
        if not strays:
            return []
        schemas = ", ".join(map(self.q, there))
        return [
            _OWN.format(owner=owner, schemas=", ".join(f"'{name}'" for name in there)),
            f"grant usage on schema {schemas} to {self._role('reader')}",
            # PostgreSQL shows keys of tables, which DataJoint needs, to nobody who may only select.
            f"grant select, references on all tables in schema {schemas} to {self._role('reader')}",
            f"grant insert, update, delete on all tables in schema {schemas} to {self._role('scientist')}",
            f"grant usage on all sequences in schema {schemas} to {self._role('scientist')}",
        ]
