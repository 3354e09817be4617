"""Work: the processes that make results, so that dead ones can be told from slow ones."""

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
