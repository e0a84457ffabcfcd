# shellcheck shell=bash
# Elasticsearch 6.8, the full distribution: real index lifecycle management,
# with users and HTTPS. Needs Java 11 to 17.

ELASTICSEARCH=elasticsearch-6.8.23

engine_install() {
  fetch_java 11 17 17.0.9.2
  fetch "$ELASTICSEARCH" maven_zip org.elasticsearch.distribution.zip:elasticsearch:6.8.23
}

engine_start() {
  local dir
  dir=$(data_dir elasticsearch6)
  export JAVA_HOME ES_PATH_CONF=$dir/config ES_TMPDIR=$dir/tmp
  JAVA_HOME=$(java_home 11 17)
  [[ -e $dir/config/elasticsearch.keystore ]] || elasticsearch_configure "$dir"
  elasticsearch_ports "$dir"
  start_process elasticsearch6 "$(fetched $ELASTICSEARCH)/bin/elasticsearch"
  wait_healthy elasticsearch6 180 engine_healthy
}

elasticsearch_configure() {
  local dir=$1
  mkdir -p "$dir"/{config,data,logs,tmp}
  tls_copy "$dir/config"
  cat >"$dir/config/jvm.options" <<CONF
-Xms256m
-Xmx512m
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:-UsePerfData
-Dfile.encoding=UTF-8
-Djna.nosys=true
-Dlog4j.shutdownHookEnabled=false
-Dlog4j2.disable.jmx=true
-Dlog4j2.formatMsgNoLookups=true
-Djava.locale.providers=COMPAT
-Djava.io.tmpdir=$dir/tmp
-XX:ErrorFile=$dir/logs/crash.log
CONF
  cat >"$dir/config/log4j2.properties" <<'CONF'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
CONF
  touch "$dir/config"/{users,users_roles,roles.yml,role_mapping.yml}
  give_to_stack "$dir"
  local keystore
  keystore=$(fetched $ELASTICSEARCH)/bin/elasticsearch-keystore
  secret es6-elastic | as_stack "$keystore" add --stdin --force bootstrap.password >>"$STATE/log/elasticsearch6.log" 2>&1
}

# Written at every start, because a port may have been taken meanwhile.
elasticsearch_ports() {
  local dir=$1 port transport
  port=$(ports elasticsearch6 2)
  read -r port transport <<<"$port"
  cat >"$dir/config/elasticsearch.yml" <<CONF
cluster.name: sexton-stack-es6
node.name: elasticsearch6
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: $transport
path.data: $dir/data
path.logs: $dir/logs
cluster.routing.allocation.disk.threshold_enabled: false
indices.lifecycle.poll_interval: 1s
xpack.ml.enabled: false
xpack.watcher.enabled: false
xpack.monitoring.enabled: false
xpack.security.enabled: true
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.key: server.key
xpack.security.http.ssl.certificate: server.pem
xpack.security.http.ssl.certificate_authorities: [ca.pem]
CONF
}

# Credentials go to curl in a file, not in its arguments.
engine_healthy() {
  curl -fsS -m 5 --cacert "$TLS/ca.pem" --config <(echo "user = \"elastic:$(secret es6-elastic)\"") \
    "https://$(address elasticsearch6)/_cluster/health?wait_for_status=yellow&timeout=2s"
}
engine_version() { echo 6.8.23; }
engine_env() {
  export_line STACK_ES6_URL "https://$(address elasticsearch6)"
  export_line STACK_ES6_USER elastic
  export_line STACK_ES6_PASSWORD "$(secret es6-elastic)"
  export_line STACK_ES6_CA "$TLS/ca.pem"
}
