#!/bin/bash
# Builds a root of Debian 12 like the registry's debian:bookworm-slim, for machines that reach no registry, as a
# tar archive. Needs root, debootstrap and Debian's archive.
#
#   docker/base-image.sh FILE.tar
set -euo pipefail

archive=${1:?usage: $0 FILE.tar}
suite=bookworm
root=$archive.root
trap 'rm -rf --one-file-system "$root" "$archive.new"' EXIT
rm -rf --one-file-system "$root"

# The mirror of this machine, if it is a Debian of this release; apt inside has no CA certificates yet, so http only.
sources=(/etc/apt/sources.list /etc/apt/sources.list.d/debian.sources)
mirror=$(grep -hoE "^URIs: *http://[^ ]+|^deb (\[[^]]*\] )?http://[^ ]+ $suite " "${sources[@]}" 2>/dev/null |
    grep -oE 'http://[^ ]+' | head -n 1 || true)
debootstrap --variant=minbase "$suite" "$root" "${mirror:-http://deb.debian.org/debian}"
for file in "${sources[@]}"; do
    if [ -e "$file" ] && grep -q "$suite" "$file" && ! grep -q https: "$file"; then
        install -D -m 644 "$file" "$root${file}"
        # debootstrap's own line would only repeat it.
        [ "$file" = /etc/apt/sources.list ] || : >"$root/etc/apt/sources.list"
    fi
done

# What the registry's slim image leaves out, now and of whatever is installed later.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'SLIM'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
SLIM
cat >"$root/etc/apt/apt.conf.d/slim" <<'SLIM'
Acquire::Languages "none";
Acquire::GzipIndexes "true";
APT::Install-Recommends "false";
Apt::AutoRemove::SuggestsImportant "false";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };
SLIM
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
find "$root/usr/share/doc" ! -type d ! -name copyright -delete
find "$root/usr/share/doc" -type d -empty -delete
rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/lib/apt/lists/* \
    "$root"/var/log/* "$root"/tmp/* "$root"/etc/{resolv.conf,hostname,machine-id}

tar -C "$root" --numeric-owner --one-file-system -cf "$archive.new" .
mv "$archive.new" "$archive"
