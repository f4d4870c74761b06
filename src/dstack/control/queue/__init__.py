"""The queue of a project: who of the submitted jobs gets which place, and who cannot have one."""
