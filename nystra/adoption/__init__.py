"""Networks of other libraries as hosts: their attentions are found while they run, and become sites."""

from nystra.adoption.adopt import AdoptedRow, AdoptionReport, adopt, release
from nystra.adoption.site import AdoptedSite

__all__ = ["AdoptedRow", "AdoptedSite", "AdoptionReport", "adopt", "release"]
