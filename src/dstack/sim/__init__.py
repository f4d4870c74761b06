"""The control plane in virtual time: the production decisions over a store in memory, a simulated cloud and agents."""
