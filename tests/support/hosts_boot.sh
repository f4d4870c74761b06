# Becomes the first process of a test host: runs in fresh mount, network, process and name namespaces, as root.
# sh hosts_boot.sh FOLDER NAME BOOT_ID_FILE OWNED: FOLDER/rw (kept over reboots) takes what the host writes, FOLDER/docker is
# its engine's disk. With OWNED=1 the host ends with the process that holds the other end of its standard input.
set -eu
folder=$1 name=$2 boot_id=$3 owned=$4
root=$folder/rw/root
mkdir -p "$folder/rw/upper" "$folder/rw/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/rw/upper,workdir=$folder/rw/work" "$root"
cd "$root"
mount -t proc proc proc
mount --bind "$boot_id" proc/sys/kernel/random/boot_id
mount --rbind /sys sys
# Devices of its own: those that somebody makes on this machine meanwhile are not the host's.
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/net dev/pts dev/shm
for device in null zero full random urandom tty ptmx fuse kmsg net/tun; do
    [ ! -e "/dev/$device" ] || cp -a "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin && ln -s fd/1 dev/stdout && ln -s fd/2 dev/stderr
mount --bind /dev/pts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p var/lib/docker mnt/before run/sshd
mount --bind "$folder/docker" var/lib/docker
pivot_root . mnt/before
cd /
umount -l /mnt/before
hostname "$name"
ip link set lo up
# SIGCHLD ignored: what daemons leave behind is reaped by the kernel.
exec /usr/bin/python3 -IS -c '
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.write(1, b"up\n")
while sys.argv[1] == "1" and os.read(0, 1):
    pass
while sys.argv[1] != "1":
    signal.pause()
' "$owned"
