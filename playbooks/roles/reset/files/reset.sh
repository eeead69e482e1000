#!/bin/sh
# reset.sh plan|remove FOLDER: leave a host as FOLDER's notes (note.sh, install.sh, take.sh) say that it was.
# plan prints what would be removed, a line each; remove does it, and prints `left: WHAT` of what it could not
# remove, among the words of what it calls. It can be interrupted and run again: the notes go last.
set -eu
task=$1
folder=$2
PATH=$PATH:/usr/local/bin

present() { # of the packages that were installed from here, those that are there
    if [ -e "$folder/packages.before" ]; then # an installation was interrupted
        rpm -qa --qf '%{NAME}\n' | grep -vx gpg-pubkey | sort | comm -13 "$folder/packages.before" -
    fi
    [ -e "$folder/packages" ] || return 0
    sort -u "$folder/packages" | while read -r name; do
        if command -v dpkg-query >/dev/null; then
            # also what was removed and is still configured
            state=$(dpkg-query --show --showformat '${db:Status-Abbrev}' "$name" 2>/dev/null) || state=un
            case $state in un*) continue ;; esac
        else
            rpm --quiet -q "$name" || continue
        fi
        echo "$name"
    done
}

keys() { # those of Kubernetes' and Docker's repositories (host/vars/main.yml) that rpm did not know
    [ -e "$folder/keys" ] || return 0
    rpm -qa --qf '%{NAME}-%{VERSION}-%{RELEASE}\n' gpg-pubkey | grep -E '(9a296436|621e9f35)-[0-9a-f]+$' |
        grep -vxFf "$folder/keys" || true
}

files() { # ours, whatever was there before
    for each in /etc/modules-load.d/harness-cluster.conf /etc/sysctl.d/90-harness-cluster.conf \
        /etc/apt/keyrings/harness-kubernetes.asc /etc/apt/sources.list.d/harness-kubernetes.list \
        /etc/pki/rpm-gpg/harness-kubernetes /etc/yum.repos.d/harness-kubernetes.repo \
        /etc/yum.repos.d/harness-docker.repo /etc/cni/net.d/10-flannel.conflist /opt/cni/bin/flannel \
        /etc/systemd/system/kubelet.service.d/20-harness-endpoint.conf; do
        [ ! -e "$each" ] || echo "$each"
    done
    if [ -e "$folder/cilium" ]; then # else what is called like that is somebody else's
        for each in /etc/cni/net.d/05-cilium.conflist /opt/cni/bin/cilium-cni /etc/sysctl.d/99-zzz-override_cilium.conf; do
            [ ! -e "$each" ] || echo "$each"
        done
    fi
    [ -e "$folder/taken" ] || return 0
    for each in /etc/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d/10-kubeadm.conf; do
        [ ! -e "$each" ] || echo "$each"
    done
    while read -r _ name; do
        case $name in
            images/*) continue ;;
            cni/*) each=/opt/cni/bin/${name#cni/} ;;
            *) each=/usr/local/bin/$name ;;
        esac
        [ ! -e "$each" ] || echo "$each"
    done <"$folder/taken"
}

folders() { # those that were not there, and what is in those that were empty
    while read -r each; do
        [ ! -e "$each" ] || echo "$each"
    done <"$folder/absent"
    [ -e "$folder/empty" ] || return 0
    while read -r each; do
        [ ! -d "$each" ] || find "$each" -mindepth 1 -maxdepth 1 ! -name lost+found
    done <"$folder/empty"
}

mounts() { # at a folder and below it; /proc writes blanks as octal numbers
    awk -v at="$1" '$2 == at || index($2, at "/") == 1 {print $2}' /proc/self/mounts | sort -r
}

cilium() { # what its agent leaves when its pods are gone, as its own cleanup would take it off
    # interfaces of pods are called by twelve hexadecimal digits; lxcbr0 is LXC's
    links 'cilium_[^:@]*|lxc_health|lxc[0-9a-f]{12}' | while read -r link; do
        ip link delete "$link" 2>/dev/null || true # its peer may have gone with another
    done
    links '[^:@]*' | while read -r link; do
        filters=$(for side in ingress egress; do
            tc filter show dev "$link" "$side" 2>/dev/null | sed -nE "s/^filter protocol all pref ([0-9]+) bpf .*handle (0x[0-9a-f]+) cil_.*/$side \1 \2/p"
        done)
        [ -n "$filters" ] || continue
        echo "$filters" | while read -r side pref handle; do
            tc filter delete dev "$link" "$side" protocol all pref "$pref" handle "$handle" bpf >&2 || true
        done
        [ -n "$(tc filter show dev "$link" ingress)$(tc filter show dev "$link" egress)" ] ||
            tc qdisc delete dev "$link" clsact >&2 || true
    done
    ip netns list | sed -n 's/^\(cilium-[^ ]*\).*/\1/p' | while read -r name; do
        ip netns delete "$name" >&2 || true
    done
    for family in -4 -6; do
        # it moves the kernel's first rule behind its own, which lead to two tables
        if [ -n "$(ip "$family" rule show pref 100 lookup local 2>/dev/null)" ]; then
            { [ -n "$(ip "$family" rule show pref 0)" ] || ip "$family" rule add pref 0 lookup local; } &&
                ip "$family" rule delete pref 100 lookup local || true
        fi
        for table in 2004 2005; do
            ip "$family" rule delete lookup "$table" 2>/dev/null || true
            ip "$family" route flush table "$table" 2>/dev/null || true
        done
    done
    rm -rf /sys/fs/bpf/cilium /sys/fs/bpf/tc/globals/cilium_* # what was attached by a link that is pinned there ends
    rmdir /sys/fs/bpf/tc/globals /sys/fs/bpf/tc 2>/dev/null || true
    if [ -e "$folder/bpffs" ] && mountpoint -q /sys/fs/bpf; then # the kernel has files of its own there
        [ -n "$(find /sys/fs/bpf -mindepth 1 -not -name '*.debug')" ] || umount /sys/fs/bpf >&2 || true
    fi
    sysctl --quiet --ignore --load="$folder/cilium" >&2 || true
}

links() { # those whose whole name is like that
    ip -o link show | sed -nE "s/^[0-9]+: ($1)[:@].*/\1/p"
}

bare_tables() { # of iptables ($1), with neither rules nor chains of anybody's, those that were not there
    "$1-save" 2>/dev/null | awk '
        /^\*/ { table = substr($1, 2); bare = 1 }
        /^:/ && $2 != "ACCEPT" || /^-/ { bare = 0 }
        /^COMMIT/ && bare { print table }' >"$folder/bare"
    [ ! -e "$folder/tables.$1" ] || set -- "$1" "$folder/tables.$1"
    grep -vxFf "${2:-/dev/null}" "$folder/bare" || true
}

if [ "$task" = plan ]; then
    present | sed 's/^/package /'
    keys | sed 's/^/key /'
    files
    folders
    exit
fi

if command -v kubeadm >/dev/null; then
    kubeadm reset --force --cri-socket=unix:///run/containerd/containerd.sock >&2 || true
fi
systemctl disable --now kubelet >&2 2>&1 || true
systemctl stop kubepods.slice >&2 2>&1 || true # units of pods that are gone: the kubelet leaves them to systemd
for link in cni0 flannel.1; do
    ip link delete "$link" 2>/dev/null || true
done
[ ! -e "$folder/cilium" ] || cilium
rules='KUBE-|CNI-|FLANNEL'
! grep -qx containerd "$folder/services" || rules='KUBE-|FLANNEL' # those of CNI may be another's
# its chains, what is in them, and what leads there; not what is only commented so
[ ! -e "$folder/cilium" ] || rules="$rules|^:(OLD_)?CILIUM_|-(A|j|g) (OLD_)?CILIUM_"
for tables in iptables ip6tables; do
    command -v "$tables-save" >/dev/null || continue
    if "$tables-save" 2>/dev/null | grep -qE "$rules"; then
        "$tables-save" | grep -vE "$rules" | "$tables-restore" || true
    fi
    for table in $(bare_tables "$tables"); do # else each packet would go by its hooks, and be tracked, still
        "$tables" -t "$table" -X >&2 || true
    done
done
if grep -qx containerd "$folder/services"; then # somebody else's: only what is Kubernetes' goes
    ctr --namespace=k8s.io images ls --quiet 2>/dev/null | while read -r image; do
        ctr --namespace=k8s.io images rm "$image" >&2 || true
    done
else
    systemctl stop containerd >&2 2>&1 || true
    profile=cri-containerd.apparmor.d # by which it confines pods
    loaded=/sys/kernel/security/apparmor
    if [ -e "$folder/profiles" ] && ! grep -qx "$profile" "$folder/profiles" && grep -qs "^$profile " "$loaded/profiles"; then
        printf %s "$profile" >"$loaded/.remove" || true
    fi
fi
# whoever mounts cgroups for a pod that has all rights gives those of the host his own options
if [ -s "$folder/cgroup2" ] && ! grep -qF " /sys/fs/cgroup cgroup2 $(cat "$folder/cgroup2") " /proc/self/mounts; then
    mount -o "remount,$(cat "$folder/cgroup2")" /sys/fs/cgroup >&2 || true
fi
if [ -e "$folder/held" ]; then # also of packages that were there before
    sort -u "$folder/held" | while read -r name; do # one that is gone by now keeps no other held
        apt-mark unhold "$name" >&2 || true
    done
fi
packages=$(present)
if [ -n "$packages" ]; then
    if command -v dpkg >/dev/null; then
        apt-get check --quiet=2 -o DPkg::Lock::Timeout=300 >&2 || true # who holds the lock is waited for: dpkg does not
        # shellcheck disable=SC2086
        apt-mark unhold $packages >&2 2>&1 || true
        # one that others need by now is refused, and stays
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive dpkg --purge $packages >&2 || true
    else
        # shellcheck disable=SC2086
        rpm --erase $packages >&2 || while :; do # one that others need by now keeps all: one after the other
            packages=$(present)
            for name in $packages; do
                rpm --erase "$name" >&2 || true
            done
            [ "$(present)" != "$packages" ] || break
        done
    fi
    present | sed 's/^/left: package /'
fi
for key in $(keys); do
    rpm --erase "$key" >&2 || echo "left: key $key"
done
files | while read -r each; do
    rm -r "$each"
done
hosts=/etc/hosts
mark='# by harness-cluster'
if grep -qsF "$mark" "$hosts"; then
    grep -vF "$mark" "$hosts" >"$folder/hosts" || true
    cat "$folder/hosts" >"$hosts" # its content only: it may be a mount
fi
kept=$(present | grep '^containerd' || true) # somebody needs it by now, and it goes on with what it has
folders | while read -r each; do
    case $each in
        */containerd | */containerd/*)
            if [ -n "$kept" ]; then
                echo "left: $each"
                continue
            fi
            ;;
    esac
    mounts "$each" | while read -r mount; do
        umount "$(printf '%b' "$mount")" >&2 || true
    done
    # what is still mounted there is not ours to delete
    [ -n "$(mounts "$each")" ] || rm -rf "$each" || true
    [ ! -e "$each" ] || echo "left: $each"
done
[ ! -d "$folder/before" ] || (cd "$folder/before" && find . ! -type d) | while read -r each; do
    # file by file: `cp -a` of the folders would give / and /usr what ours have
    mkdir -p "$(dirname "${each#.}")"
    cp -a "$folder/before/$each" "${each#.}"
done
if [ -e "$folder/config.toml" ]; then
    cp -p "$folder/config.toml" /etc/containerd/config.toml
elif [ -z "$kept" ]; then
    rm -f /etc/containerd/config.toml
fi
systemctl daemon-reload >&2
[ -z "$kept" ] || systemctl start containerd >&2 || true
while read -r unit; do
    systemctl restart "$unit" >&2 || echo "left: the service $unit, which does not start"
done <"$folder/services"
for module in vxlan br_netfilter overlay; do
    grep -qx "$module" "$folder/modules" || modprobe -r "$module" 2>/dev/null || true
done
sysctl --quiet --ignore --load="$folder/sysctls" >&2 || true
[ ! -e "$folder/ntp" ] || timedatectl set-ntp false >&2 || echo "left: the time is kept by what timedatectl set-ntp true starts"
cd /
rm -r "$folder"
