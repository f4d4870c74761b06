"""The disk of a machine that is to be made, where its size can be chosen."""

from __future__ import annotations

from dstack.model.offer import Offer
from dstack.model.resources import ResourcesSpec

MIB_PER_GB = 1024


def with_disk(offer: Offer, *asking: ResourcesSpec | None) -> Offer:
    """The offer with the larger of the disks that the run and the fleet ask for; as it is where none asks for one.

    Plans and placement both go through here: a person is shown the disk that is made.
    """
    if not offer.elastic_disk:
        return offer
    sizes = [spec.disk.size for spec in asking if spec is not None and spec.disk is not None]
    least = max((size.min or 0 for size in sizes), default=0)
    most = min((size.max for size in sizes if size.max is not None), default=None)
    disk_mib = int(least * MIB_PER_GB) or offer.resources.disk_mib
    if not least and most is not None:
        disk_mib = min(disk_mib, int(most * MIB_PER_GB))
    if disk_mib == offer.resources.disk_mib:
        return offer
    return offer.model_copy(update={"resources": offer.resources.model_copy(update={"disk_mib": disk_mib})})
