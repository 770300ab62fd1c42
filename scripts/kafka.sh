#!/usr/bin/env bash
# One real Apache Kafka node on loopback, for tests, demos and CI. No containers: Maven fetches it, Java 17 runs it.
set -euo pipefail

KAFKA_VERSION=${DELTAWATCH_KAFKA_VERSION:-4.1.0}
LOG4J_VERSION=2.25.1
PORT=${DELTAWATCH_KAFKA_PORT:-19092}
CACHE=${DELTAWATCH_KAFKA_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/deltawatch/kafka}
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NODE=${DELTAWATCH_KAFKA_DATA:-${CARGO_TARGET_DIR:-$REPO/target}/kafka-$PORT}
LIBS=$CACHE/$KAFKA_VERSION
START_SECONDS_MAX=60

usage() {
    cat <<HELP
Usage: scripts/kafka.sh COMMAND

  fetch                            download Kafka into the cache (start does it too)
  start [--fresh]                  start a node and wait until it answers; --fresh forgets its data first
  stop                             stop it in good order
  kill                             kill -9 it, as a crash would; start brings it back with its data
  status                           say whether it runs; exit code 0 if so, else 1
  topic NAME PARTITIONS [K=V ...]  create a topic, e.g. topic history 4 retention.ms=-1
  clean                            stop it and delete its data

Environment:
  DELTAWATCH_KAFKA_PORT     port on 127.0.0.1; the next one serves the controller (now $PORT)
  DELTAWATCH_KAFKA_DIR      where the jars are kept (now $CACHE)
  DELTAWATCH_KAFKA_DATA     data, log and pid file of the node (now $NODE)
  DELTAWATCH_KAFKA_VERSION  which Kafka (now $KAFKA_VERSION)

Example:
  scripts/kafka.sh start && scripts/kafka.sh topic transactions 4
  DELTAWATCH_TEST_BROKERS=127.0.0.1:$PORT cargo test --release kafka
  scripts/kafka.sh stop
HELP
}

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

# need PROGRAM PACKAGE
need() {
    command -v "$1" >/dev/null || fail "$1 is missing; on Debian: apt-get install $2"
}

fetch() {
    [ -e "$LIBS/.complete" ] && return
    need java openjdk-17-jre-headless
    need mvn maven
    echo "fetching Apache Kafka $KAFKA_VERSION into $LIBS"
    local work
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/fetch.XXXXXX")
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>deltawatch</groupId><artifactId>kafka-node</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>$LOG4J_VERSION</version></dependency>
  </dependencies>
</project>
POM
    mvn --quiet --batch-mode --file "$work/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$work/jars" >&2 ||
        { rm -rf "$work"; fail "mvn could not fetch Kafka $KAFKA_VERSION; see its lines above"; }
    # A half-fetched folder is never taken for a whole one: the mark comes last.
    rm -rf "$LIBS"
    mv "$work/jars" "$LIBS"
    rm -rf "$work"
    touch "$LIBS/.complete"
}

# tool HEAP CLASS ARGUMENTS...
tool() {
    local heap=$1
    shift
    java "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
        "-Dlog4j2.configurationFile=$NODE/tool-log4j2.properties" -cp "$LIBS/*" "$@"
}

pid() {
    local pid=
    pid=$(cat "$NODE/pid" 2>/dev/null) || return 1
    # A number that another program was given since is not ours.
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q 'kafka\.Kafka' || return 1
    echo "$pid"
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null
}

configure() {
    mkdir -p "$NODE"
    cat >"$NODE/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$((PORT + 1))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$NODE/data
# Small and quick: one replica of all, few partitions for internal topics, no waits that only clusters need.
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
background.threads=2
log.segment.bytes=16777216
log.index.size.max.bytes=1048576
metadata.log.segment.bytes=8388608
log.cleaner.dedupe.buffer.size=8388608
initial.broker.registration.timeout.ms=20000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controlled.shutdown.enable=false
PROPERTIES
    local name level=INFO
    for name in server tool; do
        cat >"$NODE/$name-log4j2.properties" <<LOG4J
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
rootLogger.level=$level
rootLogger.appenderRef.console.ref=console
LOG4J
        level=ERROR
    done
}

start() {
    if pid >/dev/null; then
        echo "kafka already runs at 127.0.0.1:$PORT (pid $(pid))"
        return
    fi
    answers && fail "port $PORT is taken by another program; set DELTAWATCH_KAFKA_PORT"
    need java openjdk-17-jre-headless
    fetch
    [ "${1:-}" = --fresh ] && rm -rf "$NODE/data"
    configure
    if [ ! -e "$NODE/data/meta.properties" ]; then
        tool 128m kafka.tools.StorageTool format --standalone -t MkU3OEVBNTcwNTJENDM2Qg \
            -c "$NODE/server.properties" >"$NODE/format.log" 2>&1 || { cat "$NODE/format.log" >&2; fail "cannot format $NODE/data"; }
    fi
    setsid nohup java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData -Djava.awt.headless=true \
        "-Dlog4j2.configurationFile=$NODE/server-log4j2.properties" -cp "$LIBS/*" \
        kafka.Kafka "$NODE/server.properties" >"$NODE/server.log" 2>&1 </dev/null &
    local child=$! deadline=$((SECONDS + START_SECONDS_MAX))
    echo "$child" >"$NODE/pid"
    until grep -qs 'Kafka Server started' "$NODE/server.log" && answers; do
        kill -0 "$child" 2>/dev/null || { tail -n 20 "$NODE/server.log" >&2; fail "kafka ended while starting; see $NODE/server.log"; }
        [ $SECONDS -lt $deadline ] || { kill -9 "$child"; fail "kafka did not answer in $START_SECONDS_MAX s; see $NODE/server.log"; }
        sleep 0.1
    done
    echo "kafka $KAFKA_VERSION runs at 127.0.0.1:$PORT (pid $child, log $NODE/server.log)"
}

# stop SIGNAL
stop() {
    local pid=
    pid=$(pid) || { echo "kafka does not run on port $PORT"; rm -f "$NODE/pid"; return; }
    kill "-$1" "$pid"
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$NODE/pid"
    echo "kafka on port $PORT stopped"
}

topic() {
    [ $# -ge 2 ] || fail "usage: scripts/kafka.sh topic NAME PARTITIONS [key=value ...]"
    [ -e "$LIBS/.complete" ] || fail "kafka is not fetched; scripts/kafka.sh start"
    local name=$1 partitions=$2 configs=()
    shift 2
    for config in "$@"; do configs+=(--config "$config"); done
    configure
    tool 128m org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$PORT" --create --if-not-exists \
        --topic "$name" --partitions "$partitions" --replication-factor 1 "${configs[@]}"
}

case ${1:-} in
    fetch) fetch ;;
    start) shift && start "$@" ;;
    stop) stop TERM ;;
    kill) stop KILL ;;
    status)
        if pid >/dev/null && answers; then echo "kafka runs at 127.0.0.1:$PORT (pid $(pid))"; else
            echo "kafka does not run on port $PORT"
            exit 1
        fi
        ;;
    topic) shift && topic "$@" ;;
    clean) stop TERM && rm -rf "$NODE" ;;
    -h | --help | help) usage ;;
    *) usage >&2 && exit 2 ;;
esac
