"""Work: the processes that make results, so that dead ones can be told from slow ones; and the nights."""

import datajoint as dj

schema = dj.Schema()


@schema
class Worker(dj.Manual):
    definition = """
    # one process that is making results
    host                : varchar(200)      # machine
    pid                 : int32             # process id there
    ---
    started             : datetime(6)       # UTC, on the database's clock
    heartbeat           : datetime(6)       # UTC, on the database's clock; renewed every few seconds
    """


@schema
class Night(dj.Manual):
    definition = """
    # one run of labweave nightly
    night               : char(27)          # when it began, UTC, as 2026-12-01T02:00:00.000000Z
    ---
    host                : varchar(200)      # machine
    pid                 : int32             # process id there
    versions            : json              # of labweave and the database server
    started             : datetime(6)       # UTC
    finished=null       : datetime(6)       # UTC; null while it runs, or when its process died
    exit_code=null      : int32             # see labweave nightly --help
    free_bytes=null     : int64             # on the fullest of its disks, at the end
    told=null           : datetime(6)       # UTC; when it was told what is new in it
    """


@schema
class NightStep(dj.Manual):
    definition = """
    # one step of a night
    -> Night
    step                : varchar(96)       # for example: source rig1, populate, backup
    ---
    position            : int32             # its place in the night, from 0
    step_status         : enum('good', 'away', 'stale', 'failed', 'left') # left: not begun, or ended for want of time
    seconds             : float64           # s
    n_bytes=null        : int64             # of the files that were read, or of the backup
    counts              : json              # what was done, by name
    problems            : json              # what a person should look at: name -> kind and text
    step_message        : varchar(2000)     # in one line
    """
