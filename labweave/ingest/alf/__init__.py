"""ALF session folders and ONE cache tables as a source of subjects, sessions, datasets and trials."""

from labweave.ingest.alf.adapter import AlfAdapter, AlfOptions

__all__ = ["AlfAdapter", "AlfOptions"]
