"""What runs in a container before a person's own commands: a Docker Engine, or the chosen Python."""

from __future__ import annotations

VENV = "/dstack/venv"

# Images with an engine have one of: `start-dockerd`, `dind` around dockerd, dockerd alone. What it says is kept where
# people look for it; a job without its engine would only fail later and less clearly.
DOCKERD = """\
if ! docker info >/dev/null 2>&1; then
  if command -v start-dockerd >/dev/null 2>&1; then start-dockerd >/var/log/dockerd.log 2>&1 &
  elif command -v dind >/dev/null 2>&1; then dind dockerd >/var/log/dockerd.log 2>&1 &
  elif command -v dockerd >/dev/null 2>&1; then dockerd >/var/log/dockerd.log 2>&1 &
  else echo "docker: the image has no dockerd" >&2; exit 1; fi
  dstack_waited=0
  until docker info >/dev/null 2>&1; do
    dstack_waited=$((dstack_waited + 1))
    if [ "$dstack_waited" -gt 120 ]; then
      echo "docker: dockerd did not start within a minute:" >&2; tail -n 20 /var/log/dockerd.log >&2; exit 1
    fi
    sleep 0.5
  done
  unset dstack_waited
fi"""


def python(version: str) -> str:
    """A virtual environment of this version, activated; needs uv in the image."""
    return f"""\
if command -v uv >/dev/null 2>&1; then
  if [ "$({VENV}/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "{version}" ]; then
    uv venv --quiet --clear --seed --python {version} {VENV} || exit 1
  fi
  . {VENV}/bin/activate
else
  echo "python: the image has no uv to provide Python {version}" >&2; exit 1
fi"""
