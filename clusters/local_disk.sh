#!/usr/bin/env bash
# Put foldblend's decoded images and downloaded weights on the disks that are built into an EC2
# machine (NVMe instance store). They are empty with every new machine, as a cache may be. A machine
# without such disks keeps everything on its root disk. Run again, it changes nothing.
set -euo pipefail

MOUNT=/mnt/foldblend

built_in_disks() { # the whole disks that hold nothing yet
  local name model
  lsblk -dnro NAME,MODEL | while read -r name model; do
    case ${model//\\x20/ } in *"Instance Storage"*) ;; *) continue ;; esac
    [ -n "$(lsblk -nro FSTYPE,MOUNTPOINT "/dev/$name" | tr -d '[:space:]')" ] || echo "/dev/$name"
  done
}

fast_folder() { # where there is a disk to use; nothing where there is none
  # AWS's deep-learning images join and mount these disks themselves.
  if mountpoint -q /opt/dlami/nvme; then
    echo /opt/dlami/nvme
    return
  fi
  if mountpoint -q "$MOUNT"; then
    echo "$MOUNT"
    return
  fi
  local disks first
  disks=$(built_in_disks)
  [ -n "$disks" ] || return 0
  # One of them is enough: every image is there once, decoded.
  first=$(head -n 1 <<<"$disks")
  sudo mkfs.ext4 -q -E lazy_itable_init=1,nodiscard "$first" >&2
  sudo mkdir -p "$MOUNT"
  sudo mount -o noatime "$first" "$MOUNT" >&2
  echo "$MOUNT"
}

folder=$(fast_folder)
if [ -z "$folder" ]; then
  echo "no built-in NVMe disk here: the cache stays on the root disk"
  exit 0
fi
mkdir -p "$HOME/.cache"
for name in foldblend huggingface; do
  sudo install -d -o "$(id -un)" -m 700 "$folder/$name"
  if [ -d "$HOME/.cache/$name" ] && [ ! -L "$HOME/.cache/$name" ]; then
    rm -rf "$HOME/.cache/$name"
  fi
  ln -sfn "$folder/$name" "$HOME/.cache/$name"
done
df -h "$folder" | tail -n 1
