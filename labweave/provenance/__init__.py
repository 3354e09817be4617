"""What results rest on, and whether they come out the same again."""

from labweave.provenance.explaining import explain
from labweave.provenance.explanation import Explanation
from labweave.provenance.forms import render
from labweave.provenance.verifying import Verification, is_result, verify

__all__ = ["Explanation", "Verification", "explain", "is_result", "render", "verify"]
