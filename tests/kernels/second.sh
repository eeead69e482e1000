#!/bin/sh
# The guest on this machine's files: mounts what a distribution has mounted, runs `inside`, ends.
#   second.sh CHECKOUT PYTHON [TEST...]
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin
export HOME=/tmp/home LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 HARNESS_READY_SECONDS=600
checkout=$1 python=$2
shift 2
mkdir -p /tmp/home /dev/shm /dev/pts
mount -t tmpfs tmp /dev/shm
mount -t devpts pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security
mount -t tracefs trace /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
ip link set lo up
cd "$checkout" || echo "second: there is no $checkout"
"$python" -m tests.kernels.inside /tmp/results >/tmp/results/said 2>&1
if [ $# -gt 0 ]; then
    "$python" -m pytest -q -p no:cacheprovider --junitxml=/tmp/results/tests.xml "$@" \
        >/tmp/results/tests 2>&1
fi
echo done >/tmp/results/exit
sync
echo b >/proc/sysrq-trigger # with -no-reboot the machine ends by that
sleep 60
