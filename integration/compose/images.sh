#!/bin/sh
# Makes the images that docker-compose.yml names from what is on this machine,
# for a machine without a registry: the master's image from a redis-server (or
# valkey-server) of the PATH and the libraries that the server is linked with,
# and the images of replicad and of the integration tests from the sources. The
# images have the names that the compose file gives them:
#
#   integration/compose/images.sh
#   docker-compose up
#
# An image of that name that this script did not make is left alone; a prefix
# gives other names. The script prints the compose file's variables:
#
#   integration/compose/images.sh valkey-server my/ > images.env
#   docker-compose --env-file images.env up
set -eu

fail() {
	echo "images.sh: $*" >&2
	exit 1
}

server=${1:-redis-server} prefix=${2:-}
case $server in
redis-server) image=${prefix}redis ;;
valkey-server) image=${prefix}valkey/valkey ;;
*) fail "usage: images.sh [redis-server|valkey-server [PREFIX]]" ;;
esac
# The tag by which a registry knows the server: 7.0 of "Redis server v=7.0.15 ...".
tag=$("$server" --version | sed -n 's/.* v=\([0-9]*\.[0-9]*\).*/\1/p')
[ -n "$tag" ] || fail "$server --version tells no version"
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# ours IMAGE ends the script where the name is that of a stranger's image.
made=replicad.made-from-this-machine
ours() {
	echo "images.sh: $1" >&2
	ours=$(docker image inspect --format "{{index .Config.Labels \"$made\"}}" "$1" 2>&1) || case $ours in
	*"No such image"*) ours=yes ;;
	*) fail "$ours" ;;
	esac
	[ "$ours" = yes ] || fail "$1: this script did not make the image of that name, and leaves it alone: use a prefix"
}

# build IMAGE FOLDER DOCKERFILE [ARGUMENT...] makes an image of a folder.
build() {
	name=$1 context=$2 file=$3
	shift 3
	docker build --quiet --label "$made=yes" --file "$file" --tag "$name" "$@" "$context" >"$context.log" 2>&1 ||
		fail "docker build of $name: $(cat "$context.log")"
}

# program NAME copies a program of the PATH, and the libraries that it is linked
# with. A library that is found by its name goes to /usr/lib, where the dynamic
# linker of every distribution looks; the linker itself has a fixed path.
root=$dir/server/rootfs
program() {
	path=$(command -v "$1")
	cp -L "$path" "$root/usr/bin/$1"
	# A program that is linked with no library makes ldd fail.
	{ ldd "$path" 2>&1 || true; } | while read -r name arrow path _; do
		case "$name $arrow $path" in
		*" => not") fail "the library $name is not installed" ;;
		*" => /"*) cp -L "$path" "$root/usr/lib/$(basename "$name")" ;;
		/*" ("*) mkdir -p "$root$(dirname "$name")" && cp -L "$name" "$root$name" ;;
		esac
	done
}

for name in "$image:$tag" "${prefix}replicad:dev" "replicad-integration/$image:$tag"; do ours "$name"; done

# The master's image: the server by the names that the images of a registry have,
# a shell, and what resolving names needs. The user and group 999 are those of
# redis (or valkey) in a registry's images.
mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/etc" "$root/tmp" "$dir/server/data"
chmod 1777 "$root/tmp"
ln -s usr/bin "$root/bin"
cli=${server%-server}-cli
for name in "$server" "$cli" sh; do program "$name"; done
for name in server sentinel check-aof check-rdb; do # one binary: its name says what it does
	[ "redis-$name" = "$server" ] || ln -s "$server" "$root/usr/bin/redis-$name"
done
[ "$cli" = redis-cli ] || ln -s "$cli" "$root/usr/bin/redis-cli"
printf '%s\n' root:x:0:0::/:/bin/sh redis:x:999:999::/data:/bin/sh replicad:x:65532:65532::/:/bin/sh >"$root/etc/passwd"
printf '%s\n' root:x:0: redis:x:999: replicad:x:65532: >"$root/etc/group"
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"
tar -C "$root" --owner=0 --group=0 -cf "$dir/server.tar" .
tar -C "$dir/server" --owner=999 --group=999 -rf "$dir/server.tar" data
docker import -c "LABEL $made=yes" -c "USER 999" -c "WORKDIR /data" -c "VOLUME /data" -c "EXPOSE 6379" -c 'CMD ["redis-server"]' \
	"$dir/server.tar" "$image:$tag" >&2

# The images of cmd/replicad/Dockerfile and of integration/compose/Dockerfile, from
# the stages that take binaries as they are: binaries that need no library.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -ldflags=-s"
authorities=etc/ssl/certs/ca-certificates.crt
mkdir -p "$dir/replicad/rootfs/usr/bin" "$dir/replicad/owned/data" "$dir/replicad/owned/tmp" "$dir/integration/rootfs/usr/bin"
if [ -e "/$authorities" ]; then
	mkdir -p "$dir/replicad/rootfs/etc/ssl/certs"
	cp -L "/$authorities" "$dir/replicad/rootfs/$authorities"
fi
go build -o "$dir/replicad/rootfs/usr/bin/replicad" ./cmd/replicad
go test -c -o "$dir/integration/rootfs/usr/bin/compose.test" ./integration/compose
cp "$dir/replicad/rootfs/usr/bin/replicad" "$dir/integration/rootfs/usr/bin/"
cp LICENSE "$dir/replicad"
cp LICENSE "$dir/integration"
build "${prefix}replicad:dev" "$dir/replicad" cmd/replicad/Dockerfile --target prebuilt &
build "replicad-integration/$image:$tag" "$dir/integration" integration/compose/Dockerfile --target prebuilt \
	--build-arg "REDIS_IMAGE=$image" --build-arg "REDIS_TAG=$tag"
wait $! # for the build beside that one, which may have failed
printf '%s\n' "REDIS_IMAGE=$image" "REDIS_TAG=$tag" "REPLICAD_IMAGE=${prefix}replicad" REPLICAD_TAG=dev
