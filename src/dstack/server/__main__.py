import sys

from dstack.server.main import main

sys.exit(main())
