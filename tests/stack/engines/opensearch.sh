# shellcheck shell=bash
# OpenSearch without plugins: Temporal's visibility store. Needs Java 21 or newer.

OPENSEARCH=opensearch-3.6.0

engine_install() {
  fetch_java 21 99 25.0.2.1
  fetch "$OPENSEARCH" maven_zip org.opensearch.distribution.integ-test-zip:opensearch:3.6.0
}

engine_start() {
  local dir
  dir=$(data_dir opensearch)
  opensearch_configure "$dir"
  OPENSEARCH_JAVA_HOME=$(java_home 21 99) OPENSEARCH_PATH_CONF=$dir/config OPENSEARCH_TMPDIR=$dir/tmp \
    start_process opensearch "$(fetched $OPENSEARCH)/bin/opensearch"
  wait_healthy opensearch 180 engine_healthy
}

opensearch_configure() {
  local dir=$1 port transport
  port=$(ports opensearch 2)
  read -r port transport <<<"$port"
  mkdir -p "$dir"/{config,data,logs,tmp}
  cat >"$dir/config/opensearch.yml" <<CONF
cluster.name: sexton-stack
node.name: opensearch
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: $transport
path.data: $dir/data
path.logs: $dir/logs
cluster.routing.allocation.disk.threshold_enabled: false
CONF
  cat >"$dir/config/jvm.options" <<CONF
-Xms256m
-Xmx512m
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:-UsePerfData
-Djava.io.tmpdir=$dir/tmp
-XX:ErrorFile=$dir/logs/crash.log
-javaagent:agent/opensearch-agent.jar
CONF
  search_log_config >"$dir/config/log4j2.properties"
  give_to_stack "$dir"
}

# Warnings and start-up lines on standard output, which is the engine's log.
search_log_config() {
  cat <<'CONF'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
CONF
}

engine_healthy() { curl -fsS -m 5 "http://$(address opensearch)/_cluster/health?wait_for_status=yellow&timeout=2s"; }
engine_version() { echo 3.6.0; }
engine_env() { export_line STACK_OPENSEARCH_URL "http://$(address opensearch)"; }
