#!/usr/bin/env bash
# The floor under a provision: what the same work costs by hand, with bare mariadbd and nothing else. Data directories
# are copied from a template, servers start side by side with the product's own settings, the second one replicates from
# the first, and an application's user is made. The time is printed in milliseconds; the servers stay until `stop`.
#
#   floor.sh template DIR SETTINGS               prepare the template (not timed: the product does it once, too)
#   floor.sh pair DIR SETTINGS LEADER FOLLOWER   two servers, e.g. 127.20.200.2 127.20.200.3
#   floor.sh single DIR SETTINGS ADDRESS         one server
#   floor.sh stop DIR                            end the servers and remove their data
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

mode=$1 dir=$2
me=$(id -un)

sql() { # sql SERVER STATEMENTS
    mariadb --no-defaults --socket="$dir/$1/socket" --user=root --skip-column-names --execute="$2"
}

launch() { # launch SERVER ID ADDRESS
    mkdir -p "$dir/$1"
    cp -a --reflink=auto "$dir/template" "$dir/$1/data"
    mariadbd --defaults-file="$settings" --user="$me" --datadir="$dir/$1/data" --socket="$dir/$1/socket" \
        --pid-file="$dir/$1/pid" --bind-address="$3" --port=3306 --server-id="$2" --read-only=ON \
        --log-bin="$dir/$1/data/mysql-bin" >"$dir/$1/log" 2>&1 </dev/null &
    echo $! >"$dir/$1/process"
    disown
}

answers() { # answers SERVER: wait until it does
    until sql "$1" 'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$(cat "$dir/$1/process")" 2>/dev/null || { cat "$dir/$1/log" >&2; exit 1; }
        sleep 0.01
    done
}

make_user() { # make_user SERVER: the binding's user, on a writable server
    sql "$1" "SET GLOBAL read_only = OFF; CREATE DATABASE service_instance_db;
        CREATE USER application@'%' IDENTIFIED BY 'application';
        GRANT ALL ON service_instance_db.* TO application@'%'"
}

now() { echo $(($(date +%s%N) / 1000)); }

report() { # report START_US
    local us=$(($(now) - $1))
    printf '%d.%03d\n' $((us / 1000)) $((us % 1000))
}

case $mode in
template)
    settings=$3
    # A directory of its own for temporary tables: a server that starts removes those of every other that shares the place.
    mkdir -p "$dir/temporary"
    # With the settings: a server that finds a redo log of another size makes it anew when it starts.
    mariadb-install-db --defaults-file="$settings" --user="$me" --datadir="$dir/template" --tmpdir="$dir/temporary" \
        --skip-test-db --auth-root-authentication-method=normal >"$dir/install.log" 2>&1 || { cat "$dir/install.log" >&2; exit 1; }
    ;;
pair)
    settings=$3 leader=$4 follower=$5
    start=$(now)
    launch leader 1 "$leader" & launch follower 2 "$follower" & wait
    answers leader
    sql leader "SET SESSION sql_log_bin = 0; CREATE USER replication@'%' IDENTIFIED BY 'replication';
        GRANT REPLICATION SLAVE ON *.* TO replication@'%'"
    answers follower
    sql follower "CHANGE MASTER TO MASTER_HOST = '$leader', MASTER_PORT = 3306, MASTER_USER = 'replication',
        MASTER_PASSWORD = 'replication', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; START SLAVE"
    make_user leader
    position=$(sql leader 'SELECT @@gtid_binlog_pos')
    [ "$(sql follower "SELECT MASTER_GTID_WAIT('$position', 20)")" = 0 ]
    report "$start"
    ;;
single)
    settings=$3
    start=$(now)
    launch leader 1 "$4"
    answers leader
    make_user leader
    report "$start"
    ;;
stop)
    for server in leader follower; do
        [ -e "$dir/$server/process" ] || continue
        process=$(cat "$dir/$server/process")
        kill -9 "$process" 2>/dev/null || true
        while kill -0 "$process" 2>/dev/null; do sleep 0.01; done
        rm -rf "${dir:?}/$server"
    done
    ;;
*)
    echo "usage: floor.sh template|pair|single|stop DIR ..." >&2
    exit 2
    ;;
esac
