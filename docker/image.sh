# The binary, the base image and the image. Sourced by test.sh.

# dist/netpoll, if it can be compiled here for the image's Debian 12; else the image's own build stage does it.
build_binary() {
    local release=''
    release=$(. /etc/os-release && echo "$ID $VERSION_ID")
    if [ "$release" != "debian 12" ]; then
        binary=build
        return 0
    fi
    binary=prebuilt
    echo "building the release binary"
    nice cargo build --release --locked --quiet --package netpoll --bin netpoll --example null_port
    mkdir -p dist
    strip --strip-all -o dist/netpoll target/release/netpoll
    strip --strip-all -o dist/null_port target/release/examples/null_port
}

# What the runtime stage is made of, but for our own files.
image_recipe() { sha256sum docker/Dockerfile docker/base-image.sh | sha256sum; }

# With the base image at hand: the image, and the one with null_port in it.
build_image() {
    local arguments=(--network host --label "$name" --file docker/Dockerfile --build-arg BINARY="$binary" --build-arg BASE="$base")
    arguments+=(--build-arg ALSO="--example null_port")
    {
        DOCKER_BUILDKIT=1 "$docker" build "${arguments[@]}" --tag "$image" . &&
            DOCKER_BUILDKIT=1 "$docker" build "${arguments[@]}" --target test --tag "$null_image" .
    } >"$work/build" 2>&1 && return 0
    echo "the image does not build:" >&2
    tail -n 20 "$work/build" >&2
    return 1
}

# $base: the registry's, or one made here from Debian's packages, under a name of our own.
have_base() {
    local registry=debian:bookworm-slim
    base=$name-base:bookworm
    "$docker" image inspect "$base" >/dev/null 2>&1 && return 0
    if "$docker" image inspect "$registry" >/dev/null 2>&1 || timeout 120 "$docker" pull --quiet "$registry" 2>/dev/null; then
        "$docker" tag "$registry" "$base"
        return 0
    fi
    if [ "$binary" != prebuilt ]; then
        skip "this is not Debian 12, and no registry can be reached for an image to compile in"
    fi
    echo "no registry: making the base image from Debian's packages (a minute)"
    local begin=$SECONDS archive=$work/base.tar
    "${as_root[@]}" docker/base-image.sh "$archive" >"$work/base.log" 2>&1 || {
        tail -n 5 "$work/base.log" >&2
        return 1
    }
    "$docker" import "$archive" "$base" >/dev/null
    "${as_root[@]}" rm -f "$archive"
    echo "base image: $((SECONDS - begin)) s"
}

# The image on somebody else's daemon.
image_theirs() { have_base && build_image; }

# The image on our own. Packages are fetched only where the recipe is new; all else works without any network.
image_ours() {
    local stamp=$cache/recipe recipe
    recipe=$(image_recipe)
    base=$name-base:bookworm
    if [ "$(cat "$stamp" 2>/dev/null)" = "$recipe" ]; then
        daemon_start isolated
        build_image && return 0
        echo "once more, with a network" >&2
    fi
    rm -f "$stamp"
    daemon_start networked
    have_base
    build_image
    daemon_start isolated
    echo "$recipe" >"$stamp"
}
