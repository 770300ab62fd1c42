#!/usr/bin/env bash
# Kills runs and their broker while events come, fills their disk, cuts their journal, and compares what a reader sees in the end.
set -euo pipefail

PORT=${DELTAWATCH_KAFKA_PORT:-19092}
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<HELP
Usage: scripts/kill-test.sh [SEEDS]

Runs tests/kafka/kill with so many seeds (300), or with those from one to another (11-40), about 17 s each, and prints what each one has lost
and doubled. The broker is the test's own; it is started and cleaned away. As root the full disk is a small one in memory, else the
engine's files are kept from growing.

Environment:
  DELTAWATCH_KAFKA_PORT     the broker's port is 40 above this (now $PORT)
  DELTAWATCH_KAFKA_DIR      where the jars are kept (see scripts/kafka.sh)

Columns: lines that should be there, lost, doubled by (id, revision, diff), lines that should not be there, transactions that end otherwise
than without any kill, those for which other clusters were there when they came (look-ups as of arrival depend on the epochs that records
were bound to), ends of the engine because its broker was away, blocks of a journal that were cut off, and what was done in which order.
HELP
}

case ${1:-300} in
    -h | --help | help) usage ;;
    *[!0-9-]*) usage >&2 && exit 2 ;;
    *)
        cd "$REPO"
        export DELTAWATCH_KILL_SEEDS=${1:-300} DELTAWATCH_TEST_BROKERS=127.0.0.1:$PORT
        exec cargo test --release --test tests -- --nocapture --exact \
            kafka::kill::what_is_read_in_the_end_is_what_an_undisturbed_run_says
        ;;
esac
