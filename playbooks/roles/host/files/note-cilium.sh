#!/bin/sh
# note-cilium.sh FOLDER: what there is before Cilium's agent runs on a host, for reset.sh to leave it so. It comes
# after note.sh; that there is FOLDER/cilium says that Cilium is the network of this host.
#   absent   its folder as well, if that is not there
#   bpffs    that nothing is mounted at /sys/fs/bpf
#   cilium   the kernel's parameters that its agent sets
set -eu
cd "$1"
[ -e /run/cilium ] || grep -qx /run/cilium absent || echo /run/cilium >>absent
mountpoint -q /sys/fs/bpf || touch bpffs
sysctl --ignore net.ipv4.conf.all.rp_filter net.ipv4.fib_multipath_use_neigh net.core.fb_tunnels_only_for_init_net \
    net.core.bpf_jit_enable kernel.timer_migration 2>/dev/null >cilium.draft || true
mv cilium.draft cilium
