# shellcheck shell=bash
# Temporal with its visibility in OpenSearch, behind an alias with a write
# index, as a deployment has it that rolls its index over. Plaintext.

source "$STACK_DIR/temporal.sh"
VISIBILITY=temporal_visibility_v1

engine_needs() { echo postgres15 opensearch; }
engine_install() { temporal_install; }

engine_start() {
  local search done_mark
  search=http://$(address opensearch)
  done_mark=$(data_dir temporal)/ready
  if [[ ! -e $done_mark ]]; then
    temporal_database temporal temporal
    make_index "$search"
  fi
  # shellcheck disable=SC2034 # read by temporal_start
  local -A server=(
    [pg_port]=$(port postgres15) [pg_user]=temporal [pg_password]=$(secret pg-temporal) [database]=temporal
    [search_url]=$search [search_index]=$VISIBILITY
  )
  temporal_start temporal
  temporal_default_namespace temporal
  : >"$done_mark"
}

# The name Temporal uses is an alias from the start; the template must be there before the index.
make_index() {
  curl -fsS -m 30 -X DELETE "$1/$VISIBILITY-*" >/dev/null
  "$TEMPORAL_ES_TOOL" --endpoint "$1" setup-schema >>"$STATE/log/temporal-schema.log" 2>&1
  curl -fsS -m 30 -X PUT "$1/$VISIBILITY-000001" -H 'content-type: application/json' \
    -d "{\"aliases\": {\"$VISIBILITY\": {\"is_write_index\": true}}}" >/dev/null
}

engine_healthy() { temporal_healthy temporal; }
engine_version() { echo "$TEMPORAL_VERSION"; }
engine_env() {
  export_line STACK_TEMPORAL_ADDRESS "$(address temporal)"
  export_line STACK_TEMPORAL_METRICS_URL "$(temporal_metrics temporal)"
  export_line STACK_TEMPORAL_DATABASE temporal
  export_line STACK_TEMPORAL_DB_USER temporal
  export_line STACK_TEMPORAL_DB_PASSWORD "$(secret pg-temporal)"
  export_line STACK_TEMPORAL_VISIBILITY $VISIBILITY
  temporal_env_tools
}
