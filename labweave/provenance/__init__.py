"""What results rest on, and whether they come out the same again."""

from labweave.provenance.explaining import Explanation, explain
from labweave.provenance.verifying import Verification, verify

__all__ = ["Explanation", "Verification", "explain", "verify"]
