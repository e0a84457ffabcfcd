# shellcheck shell=bash
# Temporal with its visibility in PostgreSQL and a frontend that asks for a
# client certificate.

source "$STACK_DIR/temporal.sh"

engine_needs() { echo postgres15; }
engine_install() { temporal_install; }

engine_start() {
  local done_mark
  done_mark=$(data_dir temporal-sql)/ready
  if [[ ! -e $done_mark ]]; then
    temporal_database temporal_sql temporal
    temporal_database temporal_sql_visibility visibility
  fi
  # shellcheck disable=SC2034 # read by temporal_start
  local -A server=(
    [pg_port]=$(port postgres15) [pg_user]=temporal [pg_password]=$(secret pg-temporal) [database]=temporal_sql
    [visibility_database]=temporal_sql_visibility [tls]=yes
  )
  temporal_start temporal-sql
  temporal_default_namespace temporal-sql
  : >"$done_mark"
}

engine_healthy() { temporal_healthy temporal-sql; }
engine_version() { echo "$TEMPORAL_VERSION"; }
engine_env() {
  export_line STACK_TEMPORAL_SQL_ADDRESS "$(address temporal-sql)"
  export_line STACK_TEMPORAL_SQL_METRICS_URL "$(temporal_metrics temporal-sql)"
  export_line STACK_TEMPORAL_SQL_DATABASE temporal_sql
  export_line STACK_TEMPORAL_SQL_VISIBILITY_DATABASE temporal_sql_visibility
  export_line STACK_TEMPORAL_SQL_DB_USER temporal
  export_line STACK_TEMPORAL_SQL_DB_PASSWORD "$(secret pg-temporal)"
  export_line STACK_TEMPORAL_SQL_CA "$TLS/ca.pem"
  export_line STACK_TEMPORAL_SQL_CERT "$TLS/client.pem"
  export_line STACK_TEMPORAL_SQL_KEY "$TLS/client.key"
  export_line STACK_TEMPORAL_SQL_SERVER_NAME localhost
  temporal_env_tools
}
