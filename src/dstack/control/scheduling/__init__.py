"""Placement: which machine fits, why the others do not, and who gets what.

`candidates` answers the plan, `dstack offer` and `dstack why`; `place` answers the queue. Both stand on `match`.
"""

from dstack.control.scheduling.candidates import Candidate, Matching, candidates, fleet_candidates
from dstack.control.scheduling.match import share
from dstack.control.scheduling.nominal import nominal_disk_mib, nominal_gpu_gb, nominal_memory_mib
from dstack.control.scheduling.place import Ask, Placed, Seat, Unit, Unplaceable, Waiting, place
from dstack.control.scheduling.pool import NewInstance, Pool

__all__ = [
    "Ask",
    "Candidate",
    "Matching",
    "NewInstance",
    "Placed",
    "Pool",
    "Seat",
    "Unit",
    "Unplaceable",
    "Waiting",
    "candidates",
    "fleet_candidates",
    "nominal_disk_mib",
    "nominal_gpu_gb",
    "nominal_memory_mib",
    "place",
    "share",
]
