#!/bin/sh
# PID 1 of a test host until sshd takes its place: makes the host's root of the filesystems on
# the devices that are named, in mount, PID, network, IPC and UTS namespaces of its own.
#   start.sh NAME FOLDER PUBLIC-KEY ROOT-DEVICE [PATH DEVICE]…
set -eu
name=$1 root=$2 key=$3 device=$4
shift 4

mount "$device" "$root"
cd "$root"
for home in root home/worker; do
    mkdir -p "$home/.ssh"
    cp "$key" "$home/.ssh/authorized_keys"
done
chroot . chown -R worker: /home/worker/.ssh
echo "$name" >etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >etc/hosts

devices=$device
while [ $# -gt 0 ]; do
    mkdir -p .new ".$1"
    mount "$2" .new
    cp -a ".$1/." .new
    # An unmount would wait for the disk.
    mount --move .new ".$1"
    rmdir .new
    devices="$devices $2"
    shift 2
done

mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,size=32m,nosuid,nodev tmpfs run
mkdir run/sshd run/lock
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777,size=32m,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
    # shellcheck disable=SC2086 # three words
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
for device in $devices; do
    mknod -m 600 ".$device" b "0x$(stat -c %t "$device")" "0x$(stat -c %T "$device")"
done

hostname "$name"
mkdir .old
pivot_root . .old
cd /
# What the machine has mounted must not be seen here, still less be held or frozen.
umount -l /.old
rmdir /.old
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/sbin/sshd -D -e
