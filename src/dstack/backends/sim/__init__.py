"""A cloud that costs nothing: priced offers, delays and failures as configured, machines on this one."""
