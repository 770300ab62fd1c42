#!/usr/bin/env bash
# A real Redis and a real PostgreSQL on loopback, for the tests of look-ups. Debian's packages; what is kept is thrown away.
set -euo pipefail

REDIS_PORT=${DELTAWATCH_REDIS_PORT:-16379}
POSTGRES_PORT=${DELTAWATCH_POSTGRES_PORT:-15432}
DATA=${TMPDIR:-/tmp}/deltawatch-stores-$POSTGRES_PORT

usage() {
    cat <<HELP
Usage: scripts/stores.sh COMMAND

  start    install what is missing (as root), start both, print their addresses as environment variables
  stop     stop both and delete their data

Environment:
  DELTAWATCH_REDIS_PORT     port on 127.0.0.1 (now $REDIS_PORT)
  DELTAWATCH_POSTGRES_PORT  port on 127.0.0.1 (now $POSTGRES_PORT)

  eval "\$(scripts/stores.sh start)"
  cargo test --release --features lookup-redis,lookup-postgres stores
HELP
}

# PostgreSQL does not run as root.
as_owner() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

pg() { find /usr/lib/postgresql -name "$1" -path "*/bin/*" | sort -V | tail -1; }

start() {
    if ! command -v redis-server >/dev/null || [ -z "$(find /usr/lib/postgresql -name initdb 2>/dev/null)" ]; then
        { apt-get update -qq && apt-get install -y -qq redis-server postgresql; } >&2
    fi
    stop
    mkdir -p "$DATA/redis"
    redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --save '' --dir "$DATA/redis" --daemonize yes >&2
    if [ "$(id -u)" = 0 ]; then chown postgres "$DATA"; fi
    (
        cd /
        as_owner "$(pg initdb)" --auth trust --username postgres --no-sync --pgdata "$DATA/postgres" >/dev/null
        as_owner "$(pg pg_ctl)" --pgdata "$DATA/postgres" --wait --log "$DATA/postgres.log" \
            --options "-p $POSTGRES_PORT -h 127.0.0.1 -k $DATA" start >&2
    )
    echo "export DELTAWATCH_TEST_REDIS=redis://127.0.0.1:$REDIS_PORT/"
    echo "export DELTAWATCH_TEST_POSTGRES=postgresql://postgres@127.0.0.1:$POSTGRES_PORT/postgres"
}

stop() {
    redis-cli -p "$REDIS_PORT" shutdown nosave >/dev/null 2>&1 || true
    if [ -d "$DATA/postgres" ]; then
        (cd / && as_owner "$(pg pg_ctl)" --pgdata "$DATA/postgres" --mode immediate stop >/dev/null 2>&1) || true
    fi
    rm -rf "$DATA"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) usage; [ "${1:-}" = --help ] ;;
esac
