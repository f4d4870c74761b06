"""Entry point of the zipapp: `serve` runs the agent, `hold` and `keep` are how the agent starts its companions."""

from __future__ import annotations

import sys


def main() -> int:
    """Returns the exit code: 0 done, 1 failed, 2 usage."""
    if sys.argv[1:2] == ["hold"]:
        # Before any other import: this is on the way to the first line of a job's log.
        from dstack.agent import holder

        return holder.main(sys.argv[2:])
    if sys.argv[1:2] == ["keep"]:
        from dstack.agent import docker_keeper

        return docker_keeper.main(sys.argv[2:])
    from dstack.agent import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
