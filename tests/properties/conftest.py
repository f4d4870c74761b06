"""Properties hold however slow the machine is that looks at them."""

from hypothesis import HealthCheck, settings

# hypothesis itself does so in CI alone: elsewhere an example of more than 0.2 s fails, which a busy machine has.
settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
