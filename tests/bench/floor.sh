#!/usr/bin/env bash
# The floor under a provision: what the same work costs by hand, with bare servers and nothing else. Data directories
# are copied from a template, servers start side by side with the product's own settings, the second one replicates from
# the first, and an application's user is made. The time is printed in milliseconds; the servers stay until `stop`.
#
#   floor.sh template DIR SETTINGS               prepare the template (not timed: the product does it once, too)
#   floor.sh pair DIR SETTINGS LEADER FOLLOWER   two servers, e.g. 127.20.200.2 127.20.200.3
#   floor.sh single DIR SETTINGS ADDRESS         one server
#   floor.sh launch DIR SETTINGS SERVER ADDRESS  leader or follower again, on the data that it has or else on the template
#   floor.sh kill DIR SERVER                     end a server without a farewell; its data stay
#   floor.sh stop DIR                            end the servers and remove their data
#
# MYSQL is where `make mysql` put MySQL; without it the servers are the system's MariaDB.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

mode=$1 dir=$2
me=$(id -un)

if [ -n "${MYSQL:-}" ]; then
    server=$MYSQL/bin/mysqld client=$MYSQL/bin/mysql
    source_of() {
        echo "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '$1', SOURCE_PORT = 3306, SOURCE_USER = 'replication',
            SOURCE_PASSWORD = 'replication', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1"
    }
    position='SELECT @@gtid_executed' wait=WAIT_FOR_EXECUTED_GTID_SET
else
    server=mariadbd client=mariadb
    source_of() {
        echo "CHANGE MASTER TO MASTER_HOST = '$1', MASTER_PORT = 3306, MASTER_USER = 'replication',
            MASTER_PASSWORD = 'replication', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1"
    }
    position='SELECT @@gtid_binlog_pos' wait=MASTER_GTID_WAIT
fi

sql() { # sql SERVER STATEMENTS
    "$client" --no-defaults --socket="$dir/$1/socket" --user=root --skip-column-names --execute="$2"
}

launch() { # launch SERVER ADDRESS
    local id=1
    [ "$1" = leader ] || id=2
    mkdir -p "$dir/$1"
    [ -e "$dir/$1/data" ] || cp -a --reflink=auto "$dir/template" "$dir/$1/data"
    # In a session of its own, as on a VM: the kernel shares the processors out by sessions first.
    setsid "$server" --defaults-file="$settings" --user="$me" --datadir="$dir/$1/data" --socket="$dir/$1/socket" \
        --pid-file="$dir/$1/pid" --bind-address="$2" --port=3306 --server-id="$id" --read-only=ON \
        --log-bin="$dir/$1/data/mysql-bin" --tmpdir="$dir/$1" >"$dir/$1/log" 2>&1 </dev/null &
    echo $! >"$dir/$1/process"
    disown
}

kill_server() { # kill_server SERVER
    local process
    process=$(cat "$dir/$1/process")
    kill -9 "$process" 2>/dev/null || true
    while kill -0 "$process" 2>/dev/null; do sleep 0.01; done
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
    if [ -n "${MYSQL:-}" ]; then
        # Plugins are not loaded for this, and their settings not known.
        grep -v rpl_semi_sync "$settings" >"$dir/template.cnf"
        install=("$server" --defaults-file="$dir/template.cnf" --initialize-insecure)
    else
        install=(mariadb-install-db --defaults-file="$settings" --skip-test-db --auth-root-authentication-method=normal)
    fi
    "${install[@]}" --user="$me" --datadir="$dir/template" --tmpdir="$dir/temporary" >"$dir/install.log" 2>&1 ||
        { cat "$dir/install.log" >&2; exit 1; }
    # Two servers of one template are not one server.
    rm -f "$dir/template/auto.cnf"
    ;;
pair)
    settings=$3 leader=$4 follower=$5
    start=$(now)
    launch leader "$leader" & launch follower "$follower" & wait
    answers leader
    sql leader "SET SESSION sql_log_bin = 0; CREATE USER replication@'%' IDENTIFIED BY 'replication';
        GRANT REPLICATION SLAVE ON *.* TO replication@'%'"
    answers follower
    sql follower "$(source_of "$leader"); START REPLICA"
    make_user leader
    [ "$(sql follower "SELECT $wait('$(sql leader "$position")', 20)")" = 0 ]
    report "$start"
    ;;
single)
    settings=$3
    start=$(now)
    launch leader "$4"
    answers leader
    make_user leader
    report "$start"
    ;;
launch)
    settings=$3
    launch "$4" "$5"
    answers "$4"
    ;;
kill)
    kill_server "$3"
    ;;
stop)
    for name in leader follower; do
        [ -e "$dir/$name/process" ] || continue
        kill_server "$name"
        rm -rf "${dir:?}/$name"
    done
    ;;
*)
    echo "usage: floor.sh template|pair|single|launch|kill|stop DIR ..." >&2
    exit 2
    ;;
esac
