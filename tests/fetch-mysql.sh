#!/usr/bin/env bash
# Puts a MySQL server (8.4 or later) into a directory of its own, beside the system and without touching it:
#
#     tests/fetch-mysql.sh PREFIX
#
# Debian's releases have MariaDB only, Debian unstable has MySQL. This takes the packages and all that they depend on,
# down to the C library, from the mirror that this machine is set up for, and unpacks them. PREFIX/bin then holds the
# programs under their own names. A prefix that is there already is left as it is.
set -euo pipefail

prefix=${1:?usage: fetch-mysql.sh PREFIX}
packages=(mysql-server-core mysql-client-core)
give_up() {
    echo "cannot fetch MySQL: $*" >&2
    exit 1
}

[ -x "$prefix/bin/mysqld" ] && "$prefix/bin/mysqld" --no-defaults --version >/dev/null 2>&1 && exit 0
for tool in apt-get dpkg dpkg-deb; do
    command -v "$tool" >/dev/null || give_up "$tool is missing, so this is not a Debian machine"
done

mkdir -p "$(dirname "$prefix")"
prefix=$(cd "$(dirname "$prefix")" && pwd)/$(basename "$prefix")
work=$(mktemp -d "$prefix.XXXXXX")
chmod 755 "$work" # mktemp's own is closed, and this becomes the prefix
trap 'rm -rf "$work"' EXIT

# The mirror of the release that runs here, from the machine's own sources.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' "Created-By: Packages" 2>/dev/null |
    awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
[ -n "$mirror" ] || give_up "apt has no source for Debian $release main"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || give_up "$keyring is missing; install debian-archive-keyring"

# An apt of its own, in which nothing is installed: so everything is resolved, and the system's state stays as it is.
apt=$work/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/log"
: >"$apt/status"
echo "deb [signed-by=$keyring] $mirror sid main" >"$apt/sources.list"
private_apt() {
    apt-get -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o Dir::Etc::preferences=/dev/null \
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt/cache" -o Dir::Log="$apt/log" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::Retries=3 "$@" >>"$work/apt.log" 2>&1
}
echo "fetching ${packages[*]} from Debian unstable into $prefix"
private_apt update || give_up "the list of packages did not come: $(tail -n 3 "$work/apt.log")"
private_apt install --yes --download-only --no-install-recommends "${packages[@]}" ||
    give_up "Debian unstable has no usable ${packages[*]} now: $(tail -n 3 "$work/apt.log")"
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$work/root" || give_up "$(basename "$package") cannot be unpacked"
done

# The programs need the C library of the prefix, which only its own loader finds. A copy of the loader under the server's
# name: process lists show that name, and not the loader's.
root=$prefix/root
libraries=$(dpkg --print-architecture)
case $libraries in
amd64) libraries=x86_64-linux-gnu loader=lib64/ld-linux-x86-64.so.2 ;;
arm64) libraries=aarch64-linux-gnu loader=lib/ld-linux-aarch64.so.1 ;;
*) give_up "the architecture $libraries is not known here" ;;
esac
mkdir -p "$work/bin" "$work/loader"
wrap() {
    local program=$1 path=$2
    shift 2
    cp "$work/root/usr/$loader" "$work/loader/$program"
    cat >"$work/bin/$program" <<WRAPPER
#!/bin/sh
exec "$prefix/loader/$program" --library-path "$root/usr/lib/$libraries:$root/usr/lib/mysql/private" "$root/$path" "\$@" $*
WRAPPER
    chmod 755 "$work/bin/$program"
}
wrap mysqld usr/sbin/mysqld "--basedir=\"$root/usr\" --lc-messages-dir=\"$root/usr/share/mysql\" --plugin-dir=\"$root/usr/lib/mysql/plugin\""
wrap mysql usr/bin/mysql
wrap mysqlbinlog usr/bin/mysqlbinlog
rm -rf "$apt" "$work"/root/usr/share/{doc,man,locale,perl,perl5,lintian,bug} "$work"/root/usr/lib/*/perl*

# In one rename: a prefix is whole or not there.
rm -rf "$prefix"
trap - EXIT
mv "$work" "$prefix"
version=$("$prefix/bin/mysqld" --no-defaults --version) || give_up "the unpacked server does not run"
echo "$version"
