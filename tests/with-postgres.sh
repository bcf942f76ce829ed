#!/usr/bin/env bash
# Runs a command with a PostgreSQL server of its own, on which the broker's tests make databases:
#
#     tests/with-postgres.sh cargo test --workspace --test shared
#
# The server is Debian's, works below $TMPDIR, listens on a loopback address of its own, forgets everything (no fsync), and
# ends with the command, which finds it by TANDEM_POSTGRES (a URL without a database) and TANDEM_POSTGRES_PASSWORD.
set -euo pipefail

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "${bin:-}/postgres" ] || { echo "PostgreSQL is missing: make postgres" >&2; exit 1; }
directory=$(mktemp -d "${TMPDIR:-/tmp}/pg.XXXXXX")
data=$directory/data
as_user=()
if [ "$(id -u)" = 0 ]; then
    # The server refuses to run as root. Its user needs a way through the directory above, too.
    as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups env -u HOME)
    [ -z "${TMPDIR:-}" ] || chmod a+x "$TMPDIR"
    chown nobody:nogroup "$directory"
fi
end() {
    # Ends at once; nothing of it is kept.
    "${as_user[@]}" "$bin/pg_ctl" -D "$data" -m immediate -w -t 30 stop >/dev/null 2>&1 || true
    rm -rf "$directory"
}
trap end EXIT
trap 'exit 130' INT TERM

password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
cd "$directory" # the server's own, so that whoever looks for what works here finds it
printf '%s' "$password" >"$directory/password"
[ ${#as_user[@]} = 0 ] || chown nobody:nogroup "$directory/password"
# md5: the default takes a tenth of a second to check a password in a debug build, for each connection.
"${as_user[@]}" "$bin/initdb" -D "$data" --no-sync --username=postgres --auth=md5 --encoding=UTF8 \
    --locale=C --pwfile="$directory/password" >"$directory/initdb.log" 2>&1 ||
    { cat "$directory/initdb.log" >&2; exit 1; }
# Somebody may have the address; then another one.
for attempt in 1 2 3 4 5; do
    address=127.$((RANDOM % 50 + 200)).$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1))
    options="-c listen_addresses=$address -c port=5432 -c unix_socket_directories= -c max_connections=300"
    options+=" -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off"
    "${as_user[@]}" "$bin/pg_ctl" -D "$data" -l "$directory/log" -w -t 60 -o "$options" start >/dev/null && break
    [ "$attempt" -lt 5 ] || { cat "$directory/log" >&2; exit 1; }
done
cd "$OLDPWD"

export TANDEM_POSTGRES=postgres://postgres@$address TANDEM_POSTGRES_PASSWORD=$password
"$@"
