# shellcheck shell=bash
# Runs a verb for several engines at once and says what they are doing. Sourced, never run.

# check_engines NAME...: refuses a name that is none.
check_engines() {
  local name
  for name in "$@"; do
    [[ " ${ALL_ENGINES[*]} " == *" $name "* ]] || { say "no engine '$name'; there are: ${ALL_ENGINES[*]}"; exit 64; }
  done
}

# with_needs NAME...: prints the engines in the order of ALL_ENGINES, with all they need.
with_needs() {
  local name wanted=" $* "
  for name in "$@"; do wanted+="$("$STACK_DIR/engine" "$name" needs) "; done
  for name in "${ALL_ENGINES[@]}"; do
    if [[ $wanted == *" $name "* ]]; then echo "$name"; fi
  done
}

# run_jobs VERB NAME...: returns the first failure's status, after all have ended.
run_jobs() {
  local verb=$1 name began=$SECONDS reported=$SECONDS status=0 one
  shift
  JOBS=$(mktemp -d)
  export JOBS
  local -A jobs=()
  for name in "$@"; do
    (
      set +e
      PHASE_FILE=$JOBS/$name.phase "$STACK_DIR/engine" "$name" "$verb"
      echo $? >"$JOBS/$name.new"
      mv "$JOBS/$name.new" "$JOBS/$name.status"
    ) &
    jobs[$name]=$!
  done
  while ((${#jobs[@]} > 0)); do
    for name in "${!jobs[@]}"; do
      [[ -s $JOBS/$name.status ]] || continue
      wait "${jobs[$name]}"
      unset "jobs[$name]"
      one=$(<"$JOBS/$name.status")
      if ((status == 0)); then status=$one; fi
      rm -f "$JOBS/$name.phase"
    done
    if ((SECONDS - reported >= 20)); then
      reported=$SECONDS
      say "$((SECONDS - began)) s: $(sort -u "$JOBS"/*.phase 2>/dev/null | paste -sd';' | sed 's/;/; /g')"
    fi
    sleep 0.05
  done
  rm -rf "$JOBS"
  return "$status"
}
