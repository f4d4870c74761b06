"""Where machines come from: one folder a backend, all behind `base.Backend`."""
