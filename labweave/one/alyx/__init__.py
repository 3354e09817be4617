"""``one.alyx``: the records and filters of an Alyx server, answered from the tables."""
