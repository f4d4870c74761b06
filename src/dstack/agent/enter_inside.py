"""The rules of `enter_hangup` for an agent that is not root: carried out by a shell of the container itself."""

from __future__ import annotations

from dstack.agent.enter_command import CannotEnter
from dstack.agent.enter_engine import request

# $1 is the command's number inside, $2 `tty` or the streams of the command, between spaces.
SCRIPT = r"""
members() {
  for p in /proc/[0-9]*; do
    n=${p#/proc/}
    [ "$n" = $$ ] && continue
    if [ "$2" = tty ]; then
      read -r line 2>/dev/null <"$p/stat" || continue
      set -- "$1" "$2" ${line##*) }
      [ "$6" = "$1" ] && echo "$n"
      set -- "$1" "$2"
    else
      for f in 0 1 2; do
        l=$(readlink "$p/fd/$f" 2>/dev/null) || continue
        case "$l" in pipe:*) case "$2" in *" $l "*) echo "$n"; break;; esac;; esac
      done
    fi
  done
}
streams=$2
if [ "$2" != tty ]; then
  streams=" "
  for f in 0 1 2; do streams="$streams$(readlink "/proc/$1/fd/$f") "; done
fi
first=TERM
[ "$2" = tty ] && first=HUP
for s in $first TERM KILL; do
  for n in $(members "$1" "$streams"); do kill -$s "$n" 2>/dev/null; done
  [ "$s" = KILL ] || sleep 1
done
"""


def end_inside(place: dict, pid: int, tty: bool) -> None:
    """`pid` is the command's number on this machine; 0: it had ended by itself."""
    inside = _number_inside(pid)
    if not inside:
        return
    body = {
        "Cmd": ["/bin/sh", "-c", SCRIPT, "sh", str(inside), "tty" if tty else ""],
        "User": "0",
    }
    try:
        made = request(place["engine"], "POST", "/containers/%s/exec" % place["container"], body)
        request(place["engine"], "POST", "/exec/%s/start" % made["Id"], {"Detach": True})
    except CannotEnter:
        pass  # the container has ended, or its image has no shell


def _number_inside(pid: int) -> int:
    try:
        with open("/proc/%d/status" % pid) as f:
            for line in f:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except (OSError, ValueError):
        pass  # it is gone
    return 0
