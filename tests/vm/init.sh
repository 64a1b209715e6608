#!/bin/sh
# PID 1 of a guest: mounts, loads the modules, works off /guests/start, says how it went, and reboots, which ends the machine.
export PATH=/usr/sbin:/usr/bin:/busybox HOME=/root RUST_BACKTRACE=1
/usr/bin/busybox --install -s /busybox

fail() {
    echo "init: failure: $*"
    reboot -f
}

mount -t proc proc /proc || fail "no /proc"
mount -t sysfs sys /sys || fail "no /sys"
mount -t devtmpfs dev /dev || fail "no /dev"
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /dev/shm
mount -t tmpfs tmp /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf || fail "no bpffs"
mount -t cgroup2 cgroup /sys/fs/cgroup || fail "no cgroup2"
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
ln -sf /proc/self/fd /dev/fd
# Clients mount the address of their resolver over it.
: >/etc/resolv.conf
mkdir -p /run/netns
ip link set lo up

for module in /modules/*.ko; do
    # A kernel with everything built in has none.
    [ -e "$module" ] || continue
    insmod "$module" || fail "module $module was refused"
done
echo "init: Linux $(uname -r), up after $(cut -d ' ' -f 1 /proc/uptime) s"

failed=
while read -r name directory command; do
    echo "init: guest $name"
    # The list holds words without blanks: the command is split on purpose.
    # shellcheck disable=SC2086
    if ! (cd "$directory" && exec $command </dev/null); then
        failed="$failed $name"
    fi
done </guests/start

if [ -n "$failed" ]; then
    fail "guests failed:$failed"
fi
echo "init: success"
reboot -f
