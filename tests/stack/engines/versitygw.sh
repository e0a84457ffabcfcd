# shellcheck shell=bash
# versitygw: S3 over a folder, with versions and object lock.

VERSITYGW=versitygw-1.8.0
S3_REGION=us-east-1

engine_install() { fetch "$VERSITYGW" go_program github.com/versity/versitygw/cmd/versitygw@v1.8.0 versitygw; }
engine_start() {
  local dir port
  dir=$(data_dir versitygw)
  port=$(ports versitygw 1)
  mkdir -p "$dir/objects" "$dir/versions"
  give_to_stack "$dir"
  ROOT_ACCESS_KEY=$(secret s3-access) ROOT_SECRET_KEY=$(secret s3-secret) start_process versitygw \
    "$(fetched $VERSITYGW)/versitygw" --port "127.0.0.1:$port" --region $S3_REGION --health /health --quiet \
    posix --versioning-dir "$dir/versions" "$dir/objects"
  wait_healthy versitygw 30 engine_healthy
}
engine_healthy() { curl -fsS -m 5 "http://$(address versitygw)/health"; }
engine_version() { echo 1.8.0; }
engine_env() {
  export_line STACK_S3_ENDPOINT "http://$(address versitygw)"
  export_line STACK_S3_REGION $S3_REGION
  export_line STACK_S3_ACCESS_KEY "$(secret s3-access)"
  export_line STACK_S3_SECRET_KEY "$(secret s3-secret)"
}
