# One look at a host: prints `key<TAB>value` lines, changes nothing. Runs as the login user in any POSIX shell.
main() {
    LC_ALL=C
    PATIENCE=${DSTACK_LOOK_PATIENCE_S:-20}
    # The system's own first: a Python of the user's (pyenv, conda) may go when the user does.
    PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/rocm/bin:/usr/local/cuda/bin:/snap/bin:$PATH"
    export LC_ALL PATH
    uid=$(id -u)
    say uid "$uid"
    say user "$(id -un)"
    S=
    if [ "$uid" != 0 ]; then
        S="sudo -n"
        if problem=$(sudo -n true 2>&1); then say sudo yes; else say sudo_error "$(printf '%s' "$problem" | tail -n 1)"; fi
    fi
    pythons
    engine
    machine
    accelerators
    ours
}

say() { [ -z "$2" ] || printf '%s\t%s\n' "$1" "$(printf '%s' "$2" | tr '\n\t' '  ')"; }
lines() { while IFS= read -r line; do say "$1" "$line"; done; }
have() { command -v "$1" >/dev/null 2>&1; }
# Runs a command, for so long. One that is stuck in a driver cannot even be killed: it is left behind.
patient() {
    where=$(mktemp -d /dev/shm/dstack-look.XXXXXX 2>/dev/null) || where=$(mktemp -d 2>/dev/null) || where=
    have timeout && set -- timeout -s KILL "$PATIENCE" "$@"
    [ -n "$where" ] || { "$@"; return; }
    ("$@" >"$where/said" 2>"$where/complained"; echo $? >"$where/code") >/dev/null 2>&1 &
    waited=0
    while [ ! -s "$where/code" ] && [ "$waited" -lt $(((PATIENCE + 1) * 20)) ]; do
        sleep 0.05 2>/dev/null || sleep 1
        waited=$((waited + 1))
    done
    code=$(cat "$where/code" 2>/dev/null)
    case $code in
        '' | 124 | 137) echo "no answer within $PATIENCE s" ;;
        *) cat "$where/said"; cat "$where/complained" >&2 ;;
    esac
    rm -rf "$where"
    return "${code:-124}"
}
content() { [ -r "$2" ] && say "$1" "$(cat "$2" 2>/dev/null)"; }

pythons() {
    python=
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8; do
        have "$name" || continue
        path=$(command -v "$name")
        version=$("$path" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        say python "$version $path"
        python=$path
        case $version in 3.[0-7].* | 2.*) ;; *) break ;; esac
    done
    for name in apt-get dnf yum zypper apk pacman; do
        have "$name" && say package_manager "$name" && break
    done
}

engine() {
    have dockerd || have docker && say docker_installed yes
    [ -S /var/run/docker.sock ] && say docker_socket yes
    if [ -n "$python" ]; then
        patient $S "$python" -c '
import http.client, json, socket
def ask(path):
    c = http.client.HTTPConnection("docker", timeout=15)
    c.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    c.sock.settimeout(15)
    c.sock.connect("/var/run/docker.sock")
    c.request("GET", path)
    return json.loads(c.getresponse().read().decode())
try:
    print("docker_version\t" + ask("/version")["Version"])
    info = ask("/info")
    print("docker_runtimes\t" + " ".join(sorted(info.get("Runtimes") or {})))
    print("docker_default_runtime\t" + str(info.get("DefaultRuntime") or ""))
    print("docker_root\t" + str(info.get("DockerRootDir") or ""))
    print("docker_live_restore\t" + ("yes" if info.get("LiveRestoreEnabled") else "no"))
except Exception as e:
    print("docker_error\t%s" % e)
' 2>/dev/null
    elif have docker; then
        if version=$(patient $S docker version --format '{{.Server.Version}}' 2>&1); then
            say docker_version "$version"
        else
            say docker_error "$(printf '%s' "$version" | tail -n 1)"
        fi
    fi
}

machine() {
    [ -r /etc/os-release ] && say os "$(. /etc/os-release && printf '%s' "$PRETTY_NAME")"
    say arch "$(uname -m)"
    say kernel "$(uname -r)"
    content boot_id /proc/sys/kernel/random/boot_id
    [ -d /run/systemd/system ] && say systemd yes
    folder=/var/lib
    [ -d /var/lib/dstack ] && folder=/var/lib/dstack
    say disk_free_kib "$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }')"
    if have ip; then
        ip -o addr show scope global 2>/dev/null | awk '{ print $2, $4 }' | lines address
    else
        for each in $(hostname -I 2>/dev/null); do say address "- $each"; done
    fi
}

accelerators() {
    for device in /sys/bus/pci/devices/*; do
        [ -r "$device/vendor" ] || continue
        vendor=$(cat "$device/vendor")
        case $vendor in 0x10de | 0x1002 | 0x1da3 | 0x1e52 | 0x1ae0) say pci "$vendor $(cat "$device/class")" ;; esac
    done
    if have nvidia-smi; then
        say nvidia_smi yes
        said=$(patient nvidia-smi 2>&1)
        say nvidia_cuda "$(printf '%s' "$said" | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -n 1)"
        say nvidia_driver "$(printf '%s' "$said" | sed -n 's/.*Driver Version: *\([0-9.]*\).*/\1/p' | head -n 1)"
        case $said in *"Driver Version"*) ;; *) say nvidia_error "$(printf '%s' "$said" | head -n 1)" ;; esac
    fi
    have nvidia-ctk && say nvidia_ctk "$(patient nvidia-ctk --version 2>/dev/null | head -n 1)"
    for file in /etc/cdi/*nvidia* /var/run/cdi/*nvidia*; do [ -e "$file" ] && say nvidia_cdi "$file"; done
    content amd_driver /sys/module/amdgpu/version
    [ -d /sys/module/amdgpu ] && say amd_module yes
    [ -e /dev/kfd ] && say amd_kfd yes
    have amd-smi && say amd_smi "$(patient amd-smi version 2>&1 | head -n 1)"
    have rocm-smi && say rocm_smi yes
    if have hl-smi; then
        said=$(patient hl-smi -Q driver_version -f csv,noheader 2>&1 | head -n 1)
        case $said in [0-9]*) say gaudi_driver "$said" ;; *) say gaudi_error "${said:-no answer}" ;; esac
    fi
    content tenstorrent_driver /sys/module/tenstorrent/version
    [ -e /dev/tenstorrent ] && say tenstorrent_device yes
    have tt-smi && say tt_smi yes
    content hugepages_1g /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
    grep -q ' /dev/hugepages-1G ' /proc/mounts 2>/dev/null && say hugepages_mounted yes
}

ours() {
    content host_id /var/lib/dstack/host-id
    say agent "$(readlink /opt/dstack/agent.pyz 2>/dev/null)"
}

main </dev/null
