# Sourced by ./demo and ./test: makes the project's own Python environment once, and again when pyproject.toml changes.
#
# The caller has set `root` (absolute path of the clone) and stands in it. After
#     prepare_environment        what the product needs
#     prepare_environment dev    the tools of the tests, too
# `$venv/bin/python` has everything. Neither root nor a package manager of the system is used.

venv="$root/.venv"

prepare_environment() {
    # Another environment of the caller must not leak into this one.
    unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
    extra=${1:-}
    stamp="$root $(cksum <pyproject.toml)"
    if [ "$(cat "$venv/.stamp-dev" 2>/dev/null)" = "$stamp" ]; then return 0; fi
    if [ -z "$extra" ] && [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ]; then return 0; fi
    _drop_unusable
    setup_log=$(mktemp "${TMPDIR:-/tmp}/dstack-setup.XXXXXX") || exit 1
    printf 'Setting up the Python environment in %s (once; about a minute) ...\n' "$venv" >&2
    if ! _install >"$setup_log" 2>&1; then
        tail -n 25 "$setup_log" >&2
        printf 'error: The Python environment could not be set up; the whole output is in %s\n' "$setup_log" >&2
        printf 'hint: the packages come from the index that pip or uv is configured for; check the network, then run this again\n' >&2
        exit 1
    fi
    rm -f "$setup_log"
    printf '%s\n' "$stamp" >"$venv/.stamp${extra:+-$extra}"
}

# An environment whose interpreter is gone, or that was made for another place, cannot be mended by installing into it.
_drop_unusable() {
    [ -d "$venv" ] || return 0
    made_for=$(cat "$venv/.stamp" "$venv/.stamp-dev" 2>/dev/null | head -n 1)
    case "$made_for" in "" | "$root "*) "$venv/bin/python" -c 'import pip' 2>/dev/null && return 0 ;; esac
    [ -z "$made_for" ] && "$venv/bin/python" -c '' 2>/dev/null && [ -n "$(_find_uv)" ] && return 0
    rm -rf "$venv"
}

_install() {
    target=".${extra:+[$extra]}"
    uv=$(_find_uv)
    python=$(_find_python)
    if [ -z "$uv" ] && [ -z "$python" ]; then return 1; fi
    if [ -n "$uv" ]; then
        [ -d "$venv" ] || "$uv" venv --quiet --seed --python '>=3.11' "$venv"
        "$uv" pip install --quiet --python "$venv/bin/python" --editable "$target" && return 0
        [ -n "$python" ] || return 1
    fi
    # Also when uv could not: pip may be configured for an index that uv does not know.
    [ -x "$venv/bin/pip" ] || "$python" -m venv --clear "$venv" || return 1
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$venv/bin/python" -m pip install --quiet --editable "$target"
}

# Says what to type when there is nothing to make an environment with.
require_python() {
    [ -n "$(_find_uv)" ] || [ -n "$(_find_python)" ] && return 0
    printf 'error: This needs uv, or Python 3.11 or newer with venv; neither was found.\nhint: install one with:  %s\n' \
        "$(_install_command)" >&2
    exit 1
}

_find_uv() {
    for candidate in uv "${HOME:-/}/.local/bin/uv" "${HOME:-/}/.cargo/bin/uv"; do
        if "$candidate" --version >/dev/null 2>&1; then command -v "$candidate" && return 0; fi
    done
    return 0
}

_find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate" && return 0
        fi
    done
    return 0
}

_install_command() {
    if command -v python3 >/dev/null 2>&1 && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        command -v apt-get >/dev/null 2>&1; then
        echo 'sudo apt-get install -y python3-venv'
    elif command -v brew >/dev/null 2>&1; then
        echo 'brew install uv'
    elif command -v curl >/dev/null 2>&1; then
        echo 'curl -LsSf https://astral.sh/uv/install.sh | sh'
    elif command -v apt-get >/dev/null 2>&1 && ! command -v wget >/dev/null 2>&1; then
        echo 'sudo apt-get install -y python3 python3-venv'
    else
        echo 'wget -qO- https://astral.sh/uv/install.sh | sh'
    fi
}
