#!/bin/sh
# note.sh FOLDER: what there is before a host becomes part of a cluster, for reset.sh to leave it so.
#   absent    paths that are not there
#   sysctls   the kernel's parameters
#   modules   modules of the kernel that are loaded
#   empty     of folders that somebody may have mounted a disk at, those without anything in them
#   keys      keys of packages that rpm knows, where there is rpm
#   before/   the kubelet's unit, if there is one
#   tables.*  tables of iptables that are there
#   cgroup2, profiles   with which options cgroups are mounted, and the profiles of AppArmor; not in a container, whose
#             kernel is another's
#   config.toml, services   containerd's configuration and what runs, if there is one
set -eu
mkdir -p -m 0700 "$1"
cd "$1"
for path in /etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/cni /var/lib/cni /opt/cni /opt/local-path-provisioner \
    /etc/containerd /var/lib/containerd /usr/libexec/kubernetes /var/log/pods /var/log/containers /run/flannel \
    /etc/apt/keyrings /etc/systemd/system/kubelet.service.d /opt/containerd /run/containerd /run/xtables.lock; do
    [ -e "$path" ] || echo "$path"
done >absent
for path in /var/lib/containerd /var/lib/etcd /var/lib/kubelet /opt/local-path-provisioner; do
    [ ! -d "$path" ] || [ -n "$(find "$path" -mindepth 1 -maxdepth 1 ! -name lost+found)" ] || echo "$path"
done >empty
for path in /etc/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d/10-kubeadm.conf; do
    [ -e "$path" ] || continue
    mkdir -p "before$(dirname "$path")"
    cp -a "$path" "before$path"
done
! command -v rpm >/dev/null || rpm -qa --qf '%{NAME}-%{VERSION}-%{RELEASE}\n' gpg-pubkey >keys
# those that we, the kubelet and kube-proxy set; the kernel sets accept_redirects itself with ip_forward, and so it
# comes after that
sysctl --ignore net.ipv4.ip_forward net.ipv4.conf.all.accept_redirects net.ipv4.conf.all.route_localnet \
    net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables \
    vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes \
    net.netfilter.nf_conntrack_max net.netfilter.nf_conntrack_buckets \
    net.netfilter.nf_conntrack_tcp_timeout_established net.netfilter.nf_conntrack_tcp_timeout_close_wait \
    2>/dev/null >sysctls || true
ls /sys/module >modules
for tables in iptables ip6tables; do
    ! command -v "$tables-save" >/dev/null || "$tables-save" 2>/dev/null | sed -n 's/^\*//p' >"tables.$tables"
done
if ! systemd-detect-virt --quiet --container; then
    awk '$2 == "/sys/fs/cgroup" && $3 == "cgroup2" {print $4}' /proc/self/mounts >cgroup2
    sed 's/ .*//' /sys/kernel/security/apparmor/profiles >profiles 2>/dev/null || rm -f profiles
fi
[ ! -e /etc/containerd/config.toml ] || cp -p /etc/containerd/config.toml config.toml
for unit in containerd; do
    ! systemctl --quiet is-active "$unit" || echo "$unit"
done >services
date >noted
