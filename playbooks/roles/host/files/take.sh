#!/bin/sh
# take.sh FOLDER: what was copied to FOLDER/staged is compared with its SHA256SUMS and put in its place.
set -eu
cd "$1/staged"
sha256sum --check --strict --quiet SHA256SUMS >&2
while read -r _ name; do
    case $name in
        images/*) ctr --namespace=k8s.io images import "$name" >/dev/null ;;
        cni/*)
            mkdir -p /opt/cni/bin
            install -m 0755 "$name" /opt/cni/bin/
            ;;
        *) install -m 0755 "$name" /usr/local/bin/ ;;
    esac
    rm "$name"
done <SHA256SUMS
cat SHA256SUMS >>"$1/taken"
rm -r "$1/staged"
