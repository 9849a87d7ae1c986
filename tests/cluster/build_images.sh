#!/usr/bin/env bash
# Build the images where no registry can be reached: tests/cluster/build_images.sh [NAME ...] (as root, Debian 12)
#
# The real Dockerfiles, over a base made by debootstrap in place of nvidia/cuda, with Debian's
# Python 3.11 and the ordinary torch wheel. Images stay in containers/build, the builder's store in STORE (.images).
# COMMAND=containers/release.sh publishes them instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
store=${STORE:-$PWD/.images}
mkdir -p "$store"
type debootstrap buildah envsubst apptainer >/dev/null || tests/install_debian.sh
export BUILDAH="buildah --root $store/root --runroot $store/run --storage-driver overlay"
export BUDFLAGS="--isolation chroot --pull-never" BASE_IMAGE=localhost/radtune/base PYTHON=3.11 TORCH=torch
if ! $BUILDAH inspect --type image $BASE_IMAGE >/dev/null 2>&1; then
    rm -rf "$store/base"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$store/base" >/dev/null
    # packages come by the same way as on this machine
    cp /etc/ssl/certs/ca-certificates.crt "$store/base/etc/ssl/certs/"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$store/base/etc/"
    container=$($BUILDAH from scratch)
    tar --create --directory "$store/base" --exclude './dev/*' . > "$store/base.tar"
    $BUILDAH add "$container" "$store/base.tar" / >/dev/null
    $BUILDAH config --cmd /bin/bash --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$container"
    $BUILDAH commit --quiet "$container" $BASE_IMAGE >/dev/null
    $BUILDAH rm "$container" >/dev/null
    rm -rf "$store/base" "$store/base.tar"
fi
"${COMMAND:-containers/build.sh}" "$@"
