#!/bin/sh
# install.sh FOLDER NAME...: install packages, those of FOLDER/packages.d if there are some. What is not
# there yet is noted first (FOLDER/packages), so that reset.sh knows it however this ends.
set -eu
folder=$1
shift
export DEBIAN_FRONTEND=noninteractive

is_there() {
    if command -v dpkg-query >/dev/null; then
        dpkg-query --show --showformat '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^[hi]i' # also what is held
    else
        rpm --quiet -q "$1"
    fi
}

patiently() { # who holds a lock is waited for as long as `apt-get install` does: for these two nobody waits
    tries=0
    until LC_ALL=C "$@" >"$folder/said" 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 150 ] || ! grep -qE ' locked by |Could not get lock ' "$folder/said"; then
            cat "$folder/said" >&2
            return 1
        fi
        sleep 2
    done
    rm "$folder/said"
}

if [ -d "$folder/packages.d" ]; then
    set --
    for file in "$folder"/packages.d/*; do
        case $file in
            *.deb) name=$(dpkg-deb --field "$file" Package) ;;
            *.rpm) name=$(rpm -q --qf '%{NAME}' --package "$file" 2>/dev/null) ;;
        esac
        is_there "$name" || set -- "$@" "$file"
    done
fi
if command -v apt-get >/dev/null; then
    # nothing of others is removed for it
    options='--yes --quiet=2 --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300'
    patiently dpkg --configure -a # an interrupted run may have left some half installed
    [ -d "$folder/packages.d" ] || patiently apt-get update --quiet=2
    # "Inst NAME (VERSION ...)": an upgrade would name the old version first, in brackets
    # shellcheck disable=SC2086
    apt-get install $options --simulate "$@" >"$folder/simulated"
    sed -n 's/^Inst \([^ ]*\) (.*/\1/p' "$folder/simulated" >>"$folder/packages"
    rm "$folder/simulated"
    # shellcheck disable=SC2086
    apt-get install $options "$@" >&2
else
    # what an interrupted run has installed is found by reset.sh, by the same difference
    # keys count as packages, all of one name
    [ -e "$folder/packages.before" ] || rpm -qa --qf '%{NAME}\n' | grep -vx gpg-pubkey | sort >"$folder/packages.before"
    # those of Kubernetes are excluded for everybody else
    dnf install --assumeyes --quiet --disableexcludes=harness-kubernetes --setopt=install_weak_deps=False "$@" >&2
    rpm -qa --qf '%{NAME}\n' | grep -vx gpg-pubkey | sort | comm -13 "$folder/packages.before" - >>"$folder/packages"
    rm "$folder/packages.before"
fi
rm -rf "$folder/packages.d"
