#!/bin/busybox sh
# The first process of a guest: finds this machine's files, which it can only read, and goes on there.
bb=/bin/busybox
. /words
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
while read -r module; do
    $bb insmod "$module" || echo "first: $module cannot be loaded"
done </order
options=trans=virtio,version=9p2000.L,msize=262144
$bb mount -t 9p -o "ro,cache=loose,$options" root /new || {
    echo "first: the root cannot be mounted"
    echo b >/proc/sysrq-trigger
}
for each in tmp run var/tmp; do
    $bb mount -t tmpfs tmp "/new/$each"
done
$bb chmod 1777 /new/tmp /new/var/tmp
$bb mkdir /new/tmp/results
$bb mount -t 9p -o "cache=none,$options" results /new/tmp/results
for each in proc sys dev; do
    $bb mount --move "/$each" "/new/$each"
done
exec $bb switch_root /new /bin/sh "$checkout/tests/kernels/second.sh" "$checkout" "$python" $also
