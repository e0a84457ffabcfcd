# shellcheck shell=bash
# What OpenSearch and Elasticsearch have in common. Sourced, never run.

# search_prepare DIR: the folders, Java's options (small and quick to start) and the log, which goes to standard output.
search_prepare() {
  mkdir -p "$1"/{config,data,logs,tmp}
  cat >"$1/config/jvm.options" <<CONF
-Xms256m
-Xmx1g
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:-UsePerfData
-Djava.io.tmpdir=$1/tmp
-XX:ErrorFile=$1/logs/crash.log
-Dlog4j.shutdownHookEnabled=false
-Dlog4j2.disable.jmx=true
-Dlog4j2.formatMsgNoLookups=true
CONF
  cat >"$1/config/log4j2.properties" <<'CONF'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
CONF
}

# search_settings NAME DIR: the settings that both understand. Written at every start: a port may have been taken.
search_settings() {
  local port transport
  port=$(ports "$1" 2)
  read -r port transport <<<"$port"
  cat <<CONF
cluster.name: sexton-stack
node.name: $1
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: $transport
path.data: $2/data
path.logs: $2/logs
cluster.routing.allocation.disk.threshold_enabled: false
CONF
}

# search_wait NAME: until it answers, and until the shards of an earlier start are there (an index that a test broke may stay red).
search_wait() {
  wait_healthy "$1" 180 engine_healthy
  engine_healthy '?wait_for_status=yellow&timeout=30s' >/dev/null 2>&1 || say "$1: an index is red"
}
