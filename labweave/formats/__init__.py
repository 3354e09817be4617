"""Readers and writers of file formats: paths in, arrays and plain dicts out."""
