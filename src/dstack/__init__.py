"""dstack: one control plane that provisions GPU machines and runs containers on them.

This file is also packed into the host agent: it stays free of imports and of syntax newer than Python 3.8.
"""

__version__ = "0.22.5"
