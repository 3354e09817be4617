"""What the lab knows: one module per database schema, tables only.

Importing a module connects to nothing; `labweave.connect` binds its tables to a
database, as ``{prefix}{module}``.
"""
