"""Statements for the guard of queries: every function that the server lists, at every place of a query, disguised."""

import random
import re

FUNCTIONS = {
    "postgresql": """
        select proname, array(select format_type(t, null) from unnest(proargtypes) with ordinality a(t, n) order by n)
        from pg_proc where prokind = 'f' and (provolatile <> 'i' or random() < 0.2)
    """,
    "mysql": """
        select t.name, null from mysql.help_topic t join mysql.help_category c using (help_category_id)
        where c.name like '%%unction%%' or c.name like 'GTID' or c.name like '%%rocedure%%'
    """,
}
ARGUMENTS = ["'{file}'", "'/etc/passwd'", "'delete from {lab}'", "1", "0", "true", "null", "now()", "'x'", "lab"]
OF_TYPE = {"text": ARGUMENTS[:3], "integer": "1", "bigint": "1", "boolean": "true", "oid": "1", "regclass": "'{lab}'"}
WRITES = [
    "delete from {lab}",
    "insert into {lab} (lab) values ('evil')",
    "update {lab} set institution = 'evil'",
    "truncate table {lab}",
    "drop table {lab}",
    "create table {evil} (x int)",
    "select * into {evil} from {lab}",
    "select * from {lab} into outfile '{file}'",
    "copy {lab} to '{file}'",
    "copy (select 1) to program 'touch {file}'",
    "commit",
    "set role none",
]


def functions(database, dialect):
    """Return names and types of the arguments, None where the server does not say."""
    found = database.connection.query(FUNCTIONS[dialect]).fetchall()
    return [(name.split()[0].lower(), types) for name, types in found if re.fullmatch(r"\w+( .*)?", name)]


def statements(database, dialect, file, seed):
    """Yield statements without end."""
    rng, known = random.Random(seed), functions(database, dialect)
    assert len(known) > 150
    names = {"lab": f"{database.prefix}lab.lab", "evil": f"{database.prefix}lab.evil", "file": str(file)}
    while True:
        text = _disguised(rng, _statement(rng, known, 3))
        for name, value in names.items():
            text = re.sub(r"\{" + name + r"\}", lambda _, value=value: value, text, flags=re.IGNORECASE)
        yield text


def _call(rng, known):
    name, types = rng.choice(known)
    if types is None:
        given = [rng.choice(ARGUMENTS) for _ in range(rng.randrange(5))]
    else:
        given = [f"cast({rng.choice(OF_TYPE.get(kind, ['null']))} as {kind})" for kind in types]
    written = rng.choice([name, name, name, f"pg_catalog.{name}", f'"{name}"', f"{name} ", f"`{name}`"])
    return f"{written}({', '.join(given)})"


def _value(rng, known, depth):
    if depth <= 0 or rng.random() < 0.4:
        return _call(rng, known)
    inner = _value(rng, known, depth - 1)
    return rng.choice(
        [
            "lab",
            f"case when {inner} is null then 1 end",
            f"coalesce({inner}, null)",
            f"cast({inner} as char(9))",
            f"({_select(rng, known, depth - 1)})",
            f"exists ({_select(rng, known, depth - 1)})",
            f"max({inner}) over (order by lab)",
        ]
    )


def _select(rng, known, depth):
    if depth < 0:
        return "select 1"
    value = _value(rng, known, depth)
    body = rng.choice(
        [
            f"select {value} from {{lab}}",
            f"select * from {{lab}} where {value} is not null",
            f"select lab from {{lab}} order by {value}",
            f"select count(*) from {{lab}} group by {value} having {value} is null",
            f"select * from {value} as q",
            f"select * from {{lab}} l join lateral (select {value} as v) q on true",
            f"select {value}",
            f"values ({value})",
            f"select lab from {{lab}} limit {value}",
        ]
    )
    if rng.random() < 0.2:
        other = _write(rng) if rng.random() < 0.3 else _select(rng, known, depth - 1)
        body = f"with a as ({other}) {body}"
    if rng.random() < 0.15:
        body = f"{body} union all {_select(rng, known, depth - 1)}"
    if rng.random() < 0.05:
        body += rng.choice([" for update", " into outfile '{file}'", " into {evil}", " lock in share mode"])
    return body


def _write(rng):
    return rng.choice(WRITES)


def _statement(rng, known, depth):
    kind = rng.random()
    if kind < 0.7:
        return _select(rng, known, depth)
    if kind < 0.8:
        return rng.choice(["explain ", "explain analyze ", "prepare x as ", "do ", "call ", "execute "]) + _write(rng)
    both = [_select(rng, known, depth - 1), _write(rng)]
    rng.shuffle(both)
    return rng.choice(["; ", ";\n--x\n", "; /**/", "\x00;", "';", "$$;$$", "/*! ; */", "*/;", "\\';", "\u037e "]).join(
        both
    )


def _disguised(rng, text):
    if rng.random() < 0.5:
        return text
    words = re.split(r"( )", text)
    spaces = [" ", "\t", "\n", "/**/", "/* ; */", " -- x\n", "\u00a0", "\v", "/*!*/", "/*M!*/"]
    words = [rng.choice(spaces) if word == " " and rng.random() < 0.2 else word for word in words]
    text = "".join(words)
    return text.upper() if rng.random() < 0.2 else text
