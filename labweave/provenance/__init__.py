"""What results rest on, and whether they come out the same again."""

from labweave.provenance.verifying import Verification, verify

__all__ = ["Verification", "verify"]
