# shellcheck shell=bash
# OpenSearch without plugins: Temporal's visibility store. Needs Java 21 or newer.

source "$STACK_DIR/search.sh"
OPENSEARCH=opensearch-3.6.0

engine_install() {
  fetch_java 21 99 25.0.2.1
  fetch "$OPENSEARCH" maven_zip org.opensearch.distribution.integ-test-zip:opensearch:3.6.0
}

engine_start() {
  local dir
  dir=$(data_dir opensearch)
  search_prepare "$dir"
  search_settings opensearch "$dir" >"$dir/config/opensearch.yml"
  echo '-javaagent:agent/opensearch-agent.jar' >>"$dir/config/jvm.options"
  give_to_stack "$dir"
  OPENSEARCH_JAVA_HOME=$(java_home 21 99) OPENSEARCH_PATH_CONF=$dir/config OPENSEARCH_TMPDIR=$dir/tmp \
    start_process opensearch "$(fetched $OPENSEARCH)/bin/opensearch"
  search_wait opensearch
}

# engine_healthy [QUERY]: without one whether it answers, whatever state a test left its indices in.
engine_healthy() { curl -fsS -m 40 "http://$(address opensearch)/_cluster/health${1:-}"; }
engine_version() { echo 3.6.0; }
engine_env() { export_line STACK_OPENSEARCH_URL "http://$(address opensearch)"; }
