# shellcheck shell=sh
# Makes the group vg of two disks: thick volumes ext and log, thin ones thin and fine, an ext4 and an XFS each.
set -e
disks="/dev/disk/by-id/virtio-pv1 /dev/disk/by-id/virtio-pv2"
# shellcheck disable=SC2086 # two words
pvcreate -q $disks
# shellcheck disable=SC2086
vgcreate -q vg $disks
lvcreate -q -y -L 120M -n ext vg
lvcreate -q -y -L 320M -n log vg
lvcreate -q -y --type thin-pool -L 600M -n pool vg
lvcreate -q -y -V 120M --thin -n thin vg/pool
lvcreate -q -y -V 320M --thin -n fine vg/pool
for name in ext thin; do mkfs.ext4 -q "/dev/vg/$name"; done
for name in log fine; do mkfs.xfs -q "/dev/vg/$name"; done
for name in ext log thin fine; do
  mkdir "/srv/$name"
  mount "/dev/vg/$name" "/srv/$name"
done
