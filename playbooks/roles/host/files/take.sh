#!/bin/sh
# take.sh FOLDER: what was copied to FOLDER/staged is compared with its SHA256SUMS and put in its place.
# What is there already is kept in FOLDER/before, unless FOLDER/new says that it came from here.
set -eu
state=$1
cd "$state/staged"

put() { # a FILE into a FOLDER
    place=$2/$(basename "$1")
    mkdir -p "$2"
    if [ ! -e "$place" ]; then
        echo "$place" >>"$state/new"
    elif ! grep -qsxF "$place" "$state/new" && [ ! -e "$state/before$place" ]; then
        mkdir -p "$state/before$2"
        cp -p "$place" "$state/before$2/"
    fi
    install -m 0755 "$1" "$2/"
}

sha256sum --check --strict --quiet SHA256SUMS >&2
while read -r _ name; do
    case $name in
        images/*) ctr --namespace=k8s.io images import "$name" >/dev/null ;;
        cni/*) put "$name" /opt/cni/bin ;;
        *) put "$name" /usr/local/bin ;;
    esac
    rm "$name"
done <SHA256SUMS
# of each name what came last
touch "$state/taken"
awk 'NR == FNR {came[$2]; next} !($2 in came)' SHA256SUMS "$state/taken" >"$state/taken.draft"
cat SHA256SUMS >>"$state/taken.draft"
mv "$state/taken.draft" "$state/taken"
rm -r "$state/staged"
