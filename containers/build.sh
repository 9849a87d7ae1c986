#!/usr/bin/env bash
# Build the images on this machine: containers/build.sh [prepare] [train] [evaluate] [vllm]; vllm only where it is named
#
# Out: containers/build/NAME-DIGEST.sif, and containers/build/images.yaml, which the rules prefer to images.yaml. DIGEST is
# over what an image is made from (Dockerfile, locks, base, arguments): the same image keeps its name and is not built
# again; another one makes stale what ran in the old. Needs buildah and Apptainer (containers/install_apptainer.sh).
#
# From the environment: BASE_IMAGE, PYTHON, TORCH as in the Dockerfiles; FORMAT=folder leaves the packing out, which takes
# minutes for train; BUILDAH (with its options) and BUDFLAGS (those of `buildah bud`), where the ordinary ones won't do.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra buildah <<<"${BUILDAH:-buildah}"
read -ra flags <<<"${BUDFLAGS:-}"
out=containers/build
mkdir -p "$out"
if [ $# = 0 ]; then set -- prepare train evaluate; fi
for name in "$@"; do
    file=containers/$name/Dockerfile
    arguments=()
    for key in BASE_IMAGE PYTHON TORCH; do
        if [ -n "${!key:-}" ]; then arguments+=("--build-arg=$key=${!key}"); fi
    done
    parts=$(sed -nE "s/^COPY ([^ ]+) .*/\1/p" "$file" | TORCH=${TORCH:-torch-cu118} envsubst)
    base=$("${buildah[@]}" images --quiet --no-trunc "${BASE_IMAGE:-none}" 2>/dev/null || true)
    # shellcheck disable=SC2086
    digest=$(cat "$file" $parts <(echo "${arguments[@]}" "$base") | sha256sum | cut -c1-12)
    image=$out/$name-$digest
    if [ "${FORMAT:-sif}" = sif ]; then image+=.sif; fi
    if [ ! -e "$image" ]; then
        tag=localhost/radtune/$name:$digest
        "${buildah[@]}" bud "${flags[@]}" "${arguments[@]}" --file "$file" --tag "$tag" .
        rm -rf "$out/oci" "$image.part"
        # light compression: what Apptainer is given without any, it packs itself, for minutes
        "${buildah[@]}" push --format oci --compression-format zstd --compression-level 1 "$tag" "oci:$out/oci"
        if [ "${FORMAT:-sif}" = sif ]; then sandbox=(); else sandbox=(--sandbox); fi
        apptainer build --disable-cache "${sandbox[@]}" "$image.part" "oci:$out/oci"
        mv "$image.part" "$image"
        rm -r "$out/oci"
    fi
    touch "$out/images.yaml"
    { grep -v "^$name:" "$out/images.yaml" || true; echo "$name: $image"; } > "$out/images.part"
    mv "$out/images.part" "$out/images.yaml"
done
