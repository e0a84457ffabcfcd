# shellcheck shell=bash
# PostgreSQL 15 from the Debian package, which is whatever minor version the machine has.

source "$STACK_DIR/postgres.sh"

engine_install() { debian_package postgresql-15 "$PG15_BIN/postgres"; }
engine_start() { pg_start postgres15 "$PG15_BIN"; }
engine_stop() {
  stop_process postgres15 QUIT
  pg_end_leftovers "$PG15_BIN" "$STATE/data/postgres15/pgdata"
}
engine_healthy() { "$PG15_BIN/pg_isready" -q -h 127.0.0.1 -p "$(port postgres15)"; }
engine_version() { "$PG15_BIN/postgres" --version | grep -oE '[0-9]+\.[0-9]+' | head -n 1; }
engine_env() { pg_env postgres15 PG15 "$PG15_BIN"; }
