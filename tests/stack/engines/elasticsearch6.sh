# shellcheck shell=bash
# Elasticsearch 6.8, the full distribution: real index lifecycle management,
# with users and HTTPS. Needs Java 11 to 17.

source "$STACK_DIR/search.sh"
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
  search_prepare "$dir"
  printf '%s\n' -Dfile.encoding=UTF-8 -Djna.nosys=true -Djava.locale.providers=COMPAT >>"$dir/config/jvm.options"
  elasticsearch_settings "$dir" >"$dir/config/elasticsearch.yml"
  if [[ ! -e $dir/config/elasticsearch.keystore ]]; then elasticsearch_password "$dir"; fi
  start_process elasticsearch6 "$(fetched $ELASTICSEARCH)/bin/elasticsearch"
  search_wait elasticsearch6
  elasticsearch_users
}

# The index of users is made on its first use, and until it is ready logins fail now and then: made here, not by the
# first test that needs it. Setting the password elastic has already is such a use.
elasticsearch_users() {
  local address
  address=https://$(address elasticsearch6)
  printf '{"password": "%s"}' "$(secret es6-elastic)" |
    curl -fsS -m 40 --retry 20 --retry-delay 1 --retry-all-errors --cacert "$TLS/ca.pem" -o /dev/null \
      --config <(echo "user = \"elastic:$(secret es6-elastic)\"") \
      -X PUT -H 'Content-Type: application/json' --data-binary @- "$address/_xpack/security/user/elastic/_password" ||
    fail "elasticsearch6: the password of elastic cannot be set"
  engine_healthy '/.security-6?wait_for_status=yellow&timeout=30s' >/dev/null ||
    fail "elasticsearch6: its index of users does not come up"
}

elasticsearch_settings() {
  search_settings elasticsearch6 "$1"
  cat <<'CONF'
indices.lifecycle.poll_interval: 1s
xpack.ml.enabled: false
xpack.watcher.enabled: false
xpack.monitoring.enabled: false
xpack.security.enabled: true
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.key: server.key
xpack.security.http.ssl.certificate: server.pem
xpack.security.http.ssl.certificate_authorities: [ca.pem]
# Its default is CBC suites only, which rustls does not speak; Elasticsearch 7 and later have GCM in theirs.
xpack.security.http.ssl.cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
CONF
}

# The user elastic's password is a secure setting, read from a keystore that its own tool makes.
elasticsearch_password() {
  local keystore
  keystore=$(fetched $ELASTICSEARCH)/bin/elasticsearch-keystore
  tls_copy "$1/config"
  touch "$1/config"/{users,users_roles,roles.yml,role_mapping.yml}
  give_to_stack "$1"
  secret es6-elastic | as_stack "$keystore" add --stdin --force bootstrap.password >>"$STATE/log/elasticsearch6.log" 2>&1
}

# Credentials go to curl in a file, not in its arguments.
# engine_healthy [QUERY]: without one whether it answers, whatever state a test left its indices in.
engine_healthy() {
  curl -fsS -m 40 --cacert "$TLS/ca.pem" --config <(echo "user = \"elastic:$(secret es6-elastic)\"") \
    "https://$(address elasticsearch6)/_cluster/health${1:-}"
}
engine_version() { echo 6.8.23; }
engine_env() {
  export_line STACK_ES6_URL "https://$(address elasticsearch6)"
  export_line STACK_ES6_USER elastic
  export_line STACK_ES6_PASSWORD "$(secret es6-elastic)"
  export_line STACK_ES6_CA "$TLS/ca.pem"
}
