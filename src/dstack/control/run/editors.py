"""What puts the server of an IDE into a container while it starts, so that the first connection need not fetch it.

Where the vendors keep their servers and where the IDEs look for them is public and stable, but nobody's promise:
all of it is an attempt beside the job, which tells in its log how it went and can neither delay nor fail it.

Of Windsurf's, the vendor documents nothing. The address is the one that Windsurf's messages name for x64 in
github.com/Exafunction/codeium issue 151 and that was seen to exist for arm64 in its issue 140; the folder is named in
its issue 111 and in github.com/Exafunction/windsurf.vim issue 511. That a server lies in `bin/COMMIT` there is
concluded: these messages have the form of those in github.com/jeanp413/open-remote-ssh issues 1, 24 and 301, which
name that place.
"""

from __future__ import annotations

import shlex

from dstack.values.ide import ServerVersion, ide_name

HOSTS = {
    "vscode": "https://update.code.visualstudio.com",
    "cursor": "https://downloads.cursor.com/production",
    "windsurf": "https://windsurf-stable.codeiumdata.com",
    "zed": "https://zed.dev/api/releases",
}

# `fetch` leaves what went wrong in the file `said`. Busybox's wget, which has no --version, checks no certificates.
_TOOLS = """\
ide=$1 number=$2 commit=$3 hosts=$4 shown=$5
give_up() {
  printf '%s\\n' "$ide server $shown: not put in beforehand: ${1:-$(tail -n 1 "$work/said")}; \
$ide fetches it when it connects"
  rm -rf "$work"; exit 0
}
ready() { printf '%s\\n' "$ide server $shown: $1"; rm -rf "$work"; exit 0; }
fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --connect-timeout 30 --speed-limit 1000 --speed-time 60 -o "$2" "$1" 2>"$work/said"
  elif wget --version >/dev/null 2>&1; then wget -nv -T 60 -t 2 -O "$2" "$1" 2>"$work/said"
  elif command -v python3 >/dev/null 2>&1; then
    python3 -c "import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], 'wb') as file:
    shutil.copyfileobj(answer, file)" "$1" "$2" 2>"$work/said"
  else give_up 'the image has none of curl, wget and python3'
  fi || give_up
}
unpack() {
  command -v tar >/dev/null 2>&1 || give_up 'the image has no tar'
  mkdir "$2" 2>"$work/said" && tar -xzof "$1" -C "$2" --strip-components "$3" 2>"$work/said" || give_up
  rm -f "$1"
}
put() { mkdir -p "${2%/*}" 2>"$work/said" && { [ -e "$2" ] || mv "$1" "$2" 2>"$work/said"; } || give_up; }
at() {
  work=$1/.dstack-$$
  mkdir -p "$work" 2>/dev/null || give_up "nothing can be written to $1"
  [ -z "$2" ] || [ ! -e "$2" ] || ready 'is there already'
}
of_glibc() { [ ! -e /etc/alpine-release ] || give_up 'it does not run on Alpine'; }
machine=$(uname -m 2>/dev/null)
case $machine in
  x86_64|amd64) arch=x64 ;;
  aarch64|arm64) arch=arm64 ;;
  *) give_up "there is none for ${machine:-this machine}" ;;
esac
"""

# Remote-SSH begins with a small program of its own, `code-COMMIT`; older ones look into `bin`.
_VSCODE = """\
of_glibc
root=$HOME/.vscode-server
at "$root" "${commit:+$root/cli/servers/Stable-$commit/server}"
if [ -n "$commit" ]; then of=commit:$commit; else of=$number; fi
fetch "$hosts/$of/server-linux-$arch/stable" "$work/server.tgz"
unpack "$work/server.tgz" "$work/server" 1
if [ -z "$commit" ]; then
  commit=$(sed -n 's/.*"commit": *"\\([0-9a-f]\\{40\\}\\)".*/\\1/p' "$work/server/product.json" 2>/dev/null | head -n 1)
fi
[ -n "$commit" ] || give_up 'what was fetched does not say which commit it is'
fetch "$hosts/commit:$commit/cli-alpine-$arch/stable" "$work/cli.tgz"
unpack "$work/cli.tgz" "$work/cli" 0
put "$work/cli/code" "$root/code-$commit"
put "$work/server" "$root/cli/servers/Stable-$commit/server"
mkdir -p "$root/bin" && [ -e "$root/bin/$commit" ] || ln -s "../cli/servers/Stable-$commit/server" "$root/bin/$commit"
"""
_CURSOR = """\
of_glibc
target=$HOME/.cursor-server/bin/linux-$arch/$commit
at "$HOME/.cursor-server" "$target"
fetch "$hosts/$commit/linux/$arch/cursor-reh-linux-$arch.tar.gz" "$work/server.tgz"
unpack "$work/server.tgz" "$work/server" 1
put "$work/server" "$target"
"""
# Nobody tells whether its archive has one folder on top or the files themselves: both are put in as they have to lie.
_WINDSURF = """\
of_glibc
target=$HOME/.windsurf-server/bin/$commit
at "$HOME/.windsurf-server" "$target"
fetch "$hosts/linux-reh-$arch/stable/$commit/windsurf-reh-linux-$arch-$number.tar.gz" "$work/server.tgz"
unpack "$work/server.tgz" "$work/unpacked" 0
set -- "$work/unpacked"/*
[ $# -eq 1 ] || set -- "$work/unpacked"
put "$1" "$target"
ready 'is in place, where Windsurf is taken to look for it'
"""
_ZED = """\
target=$HOME/.zed_server/zed-remote-server-stable-$number
at "$HOME/.zed_server" "$target"
case $arch in x64) arch=x86_64 ;; arm64) arch=aarch64 ;; esac
fetch "$hosts/stable/${number%%+*}/zed-remote-server-linux-$arch.gz" "$work/server.gz"
gzip -d "$work/server.gz" 2>"$work/said" && chmod 755 "$work/server" || give_up
put "$work/server" "$target"
"""
_STEPS = {"vscode": _VSCODE, "cursor": _CURSOR, "windsurf": _WINDSURF, "zed": _ZED}
_READY = "ready 'is in place, the first connection need not fetch it'\n"


def put_in(ide: str, version: ServerVersion, mirror: str | None) -> str:
    """A command that comes back at once and fetches the server in the background, by whatever the image has for that.

    `mirror` is the address of a copy of the vendors' hosts, each below the name of its IDE. Raises KeyError.
    """
    whole = f"{_TOOLS}{_STEPS[ide]}{_READY}"
    hosts = f"{mirror}/{ide}" if mirror else HOSTS[ide]
    argv = ("/bin/sh", "-c", f'main() {{\n{whole}}}\nmain "$@" </dev/null &', "dstack")
    return shlex.join((*argv, ide_name(ide), version.number, version.commit, hosts, version.shown))
