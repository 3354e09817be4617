"""Provenance: when, by whom, by which programs and from what each result was made."""

import datajoint as dj

schema = dj.Schema()


@schema
class Code(dj.Manual):
    definition = """
    # one state of the programs that make results
    code                : char(32)          # first half of the hash of what follows
    ---
    versions            : json              # package -> version, Python among them
    git=null            : json              # commit of a checkout, and whether files differ from it
    platform            : varchar(255)      # operating system and processor
    """


@schema
class Made(dj.Manual):
    definition = """
    # one result, as it was made last
    made                : char(32)          # hash of table and key, by the server
    ---
    made_table          : varchar(128)      # schema, without the prefix, and table
    made_key            : json              # primary key of the result
    -> Code
    inputs              : varchar(4000)     # what it rests on: table=number of rows:sum of their hashes, each
    result_sha256       : char(64)          # of its rows, those of its parts among them
    made_at             : datetime(6)       # UTC, when it was stored
    seconds             : float64           # s, that the make took
    made_by=''          : varchar(64)       # who ran it
    host=''             : varchar(255)      # on which machine, and the process there
    index (made_table, made_at)
    """


@schema
class Verified(dj.Manual):
    definition = """
    # one look at whether a result comes out the same again
    made                : char(32)          # of Made
    verified_at         : datetime(6)       # UTC
    ---
    outcome             : enum('equal', 'close', 'different', 'input gone', 'failed') # close: within the tolerance
    worst_difference=null : float64         # the largest relative one
    differences=null    : json              # what differs, the largest first
    -> Code
    verified_by=''      : varchar(64)       # who ran it
    """
