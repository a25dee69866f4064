#!/usr/bin/env bash
# The first process of a host made by hosts.py: its own view of the disk, then sshd.
# usage: host.sh NAME LAYERS TEMPORARY SHARED…
#   LAYERS     a folder on a tmpfs; LAYERS/upper already holds the host's own files
#   TEMPORARY  what the host sees as /tmp
#   SHARED     folders that every host sees as they are
# Lives until its standard input ends, so whoever made it takes it along; with the first process
# all others of the host end too.
set -euo pipefail
name=$1 layers=$2 temporary=$3
shift 3

hostname "$name"
root=$layers/root
mkdir -p "$layers/upper" "$layers/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount --bind "$temporary" "$root/tmp"
for folder in "$@"; do
  mkdir -p "$root$folder"
  mount --rbind "$folder" "$root$folder"
done
mount -t tmpfs -o size=2g tmpfs "$root/dev/shm"
cd "$root"
pivot_root . .
umount -l .
cd /

mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f /etc/host/sshd_config </dev/null &
# Not exec: bash takes in the orphans of the host, as a first process must.
while read -r _; do :; done
