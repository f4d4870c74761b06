"""The host agent: runs tasks on one machine, as containers or as processes. Standard library only, Python 3.8."""
