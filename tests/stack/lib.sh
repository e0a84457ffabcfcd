# shellcheck shell=bash
# What every script of the test stack shares: where things live, messages,
# locks, secrets, ports, processes and health. Sourced, never run.

set -euo pipefail
umask 022

STACK_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # read by the scripts
ALL_ENGINES=(postgres15 postgres17 opensearch elasticsearch6 temporal temporal-sql versitygw toxiproxy etcd kubernetes temporal-cli kubectl age schemathesis prometheus prometheus-operator helm actionlint mdbook browser)
RUN_USER=sexton-stack # who the engines run as when root starts them

# Settings of the caller's shell must not change what the engines or their clients do.
unset "${!PG@}" "${!TEMPORAL_@}" CDPATH

say() { printf 'stack: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# missing TOOL ADVICE: once, however many engines need the tool.
missing() {
  if [[ -z ${JOBS:-} ]] || mkdir "$JOBS/missing-${1// /-}" 2>/dev/null; then say "$1 is missing. $2"; fi
  exit 69
}

hash_of() { printf '%s' "$1" | sha256sum | cut -c1-10; }

if [[ -n ${SEXTON_STACK_CACHE:-} ]]; then CACHE=$SEXTON_STACK_CACHE
elif ((EUID == 0)); then CACHE=/var/cache/sexton-stack
else CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sexton-stack; fi
STATE=${SEXTON_STACK_STATE:-/var/tmp/sexton-stack-$UID-$(hash_of "$STACK_DIR")}
mkdir -p "$CACHE/log" "$CACHE/lock"
# shellcheck disable=SC2034
STATE_LOCK=$CACHE/lock/state-$(hash_of "$STATE") # outside the state, which `down` removes

# with_lock FILE COMMAND...: one at a time; the command's children do not inherit the lock.
with_lock() {
  local lock=$1
  shift
  (flock 9; "$@" 9>&-) 9>"$lock"
}

# with_state_lock COMMAND...: one `up` or `down` of this stack at a time.
with_state_lock() {
  (flock --nonblock 9 || { say "waiting for another up or down"; flock 9; }; "$@" 9>&-) 9>"$STATE_LOCK"
}

# ---- state -----------------------------------------------------------------

state_init() {
  mkdir -p "$STATE"/{run,log,data,ports,tls}
  mkdir -p "$STATE/secrets"
  chmod 700 "$STATE/secrets"
  : >"$STATE/.sexton-stack" # `down` removes only a folder that has this mark
  if ((EUID == 0)) && ! id -u "$RUN_USER" >/dev/null 2>&1; then
    with_lock "$CACHE/lock/user" add_run_user
  fi
}

add_run_user() {
  id -u "$RUN_USER" >/dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$RUN_USER"
}

# as_stack COMMAND...: as the unprivileged user when root calls, else directly.
as_stack() {
  if ((EUID == 0)); then
    setpriv --reuid="$RUN_USER" --regid="$RUN_USER" --init-groups -- "$@"
  else
    "$@"
  fi
}

# data_dir NAME: prints the folder that NAME's process owns and starts in.
data_dir() {
  local dir=$STATE/data/$1
  if [[ ! -d $dir ]]; then
    mkdir -m 700 "$dir"
    give_to_stack "$dir"
  fi
  echo "$dir"
}

give_to_stack() { if ((EUID == 0)); then chown -R "$RUN_USER:$RUN_USER" "$@"; fi; }

# secret NAME: prints a random word that stays the same until `down`.
secret() {
  local file=$STATE/secrets/$1 new=$STATE/secrets/$1.$BASHPID
  if [[ ! -s $file ]]; then
    (umask 077; openssl rand -hex 16 >"$new")
    ln "$new" "$file" 2>/dev/null || true # whoever links first decides
    rm -f "$new"
  fi
  cat "$file"
}

# port NAME [N]: prints the Nth port that was chosen for NAME; the first is where it serves.
port() { cut -d' ' -f"${2:-1}" "$STATE/ports/$1"; }
address() { echo "127.0.0.1:$(port "$1")"; }

# ports NAME COUNT: prints COUNT free loopback ports, the same as last time if nobody took them.
ports() { with_lock "$STATE/ports/.lock" choose_ports "$1" "$2"; }

choose_ports() {
  local file=$STATE/ports/$1
  if [[ -s $file ]] && { is_running "$1" || ports_are_free "$file"; }; then
    cat "$file"
    return
  fi
  rm -f "$file"
  # Below the range from which the kernel takes ports for outgoing connections.
  python3 - "$2" "$STATE/ports" >"$STATE/ports/.new" <<'PY'
import pathlib, random, socket, sys
want, taken, found = int(sys.argv[1]), set(), []
for path in pathlib.Path(sys.argv[2]).iterdir():
    taken.update(map(int, path.read_text().split()))
while len(found) < want:
    port = random.randrange(15000, 32000)
    if port in taken:
        continue
    taken.add(port)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    found.append(port)
print(*found)
PY
  mv "$STATE/ports/.new" "$file"
  cat "$file"
}

ports_are_free() {
  python3 - "$1" <<'PY'
import socket, sys
for port in open(sys.argv[1]).read().split():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError:
            sys.exit(1)
PY
}

# ---- processes -------------------------------------------------------------

# identity PID: prints what tells this process from a later one with the same number.
identity() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z ]] || return 1
  echo "${fields[19]} $(</proc/sys/kernel/random/boot_id)"
}

# start_process NAME COMMAND...: in a session of its own; notes the pid before the command begins.
start_process() {
  local name=$1 dir log=$STATE/log/$1.log note=$STATE/run/$1.pid user=()
  shift
  dir=$(data_dir "$name")
  if ((EUID == 0)); then user=(setpriv "--reuid=$RUN_USER" "--regid=$RUN_USER" --init-groups --); fi
  rm -f "$note"
  # shellcheck disable=SC2016 # the inner shell expands these
  HOME=$dir setsid --fork bash -c '
    cd "$2" && echo "$$" >"$1.new" && mv "$1.new" "$1" && shift 2 && exec "$@"
  ' start "$note" "$dir" "${user[@]}" "$@" </dev/null >>"$log" 2>&1
  local tries=0
  until [[ -s $note ]]; do
    ((++tries < 100)) || fail "$name: no process; see $log"
    sleep 0.05
  done
  local pid
  pid=$(<"$note")
  echo "$pid $(identity "$pid" || echo gone)" >"$note"
}

# is_running NAME: the very process that was started, not another with its number.
is_running() {
  local pid noted
  { read -r pid noted <"$STATE/run/$1.pid"; } 2>/dev/null || return 1
  [[ -n $noted && $(identity "$pid") == "$noted" ]]
}

# stop_process NAME [SIGNAL]: ends the process and what it started.
stop_process() {
  local name=$1 signal=${2:-KILL} note=$STATE/run/$1.pid pid='' tries=0 left
  { read -r pid _ <"$note"; } 2>/dev/null || true
  if is_running "$name"; then
    kill -s "$signal" -- "-$pid" 2>/dev/null || true
    while is_running "$name"; do
      if ((++tries == 100)); then kill -s KILL -- "-$pid" 2>/dev/null || true; fi
      ((tries < 200)) || fail "$name (process $pid) does not end"
      sleep 0.1
    done
  fi
  if [[ -n $pid ]]; then
    for left in $(session_of "$pid" "$STATE/data/$name"); do kill -s KILL "$left" 2>/dev/null || true; done
  fi
  rm -f "$note" "$STATE/run/$name.row"
}

# session_of PID HOME: the processes of the session that PID opened, also after PID itself
# has died. HOME, which start_process gave them, tells them from a later session of that number.
session_of() {
  local file stat
  for file in /proc/[0-9]*/stat; do
    { read -r stat <"$file"; } 2>/dev/null || continue
    [[ ${stat##*) } =~ ^[^Z]\ [0-9]+\ [0-9]+\ $1\  ]] || continue
    if grep -Fxzqs "HOME=$2" "${file%stat}environ"; then basename "${file%/stat}"; fi
  done
}

# wait_healthy NAME SECONDS COMMAND...: until COMMAND succeeds, the process ends or time is up.
wait_healthy() {
  local name=$1 limit=$2 began=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    is_running "$name" || fail_with_log "$name ended before it was healthy" "$STATE/log/$name.log"
    ((SECONDS - began < limit)) || fail_with_log "$name is not healthy after $limit s" "$STATE/log/$name.log"
    sleep 0.2
  done
}

fail_with_log() {
  say "$1; the end of $2:"
  tail -n 15 "$2" >&2 || true
  exit 1
}

# export_line NAME VALUE: one line for `eval`.
export_line() { printf 'export %s=%q\n' "$1" "$2"; }
