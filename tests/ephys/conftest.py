"""The tests in the folders below import what is beside this file: synthetic sweeps, and the shared recordings' results."""
