# shellcheck shell=bash
# etcd, which holds what the Kubernetes API is told. Only its clients with a certificate get in.

ETCD=etcd-3.6.8

engine_install() { fetch "$ETCD" go_main "$STACK_DIR/kubernetes/etcd" etcd ''; }
engine_start() {
  local dir port
  dir=$(data_dir etcd)
  read -ra port <<<"$(ports etcd 2)"
  tls_copy "$dir"
  start_process etcd "$(fetched $ETCD)/etcd" --name stack --data-dir "$dir/data" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "https://127.0.0.1:${port[0]}" --advertise-client-urls "https://127.0.0.1:${port[0]}" \
    --cert-file server.pem --key-file server.key --trusted-ca-file ca.pem --client-cert-auth \
    --listen-peer-urls "https://127.0.0.1:${port[1]}" --initial-advertise-peer-urls "https://127.0.0.1:${port[1]}" \
    --initial-cluster "stack=https://127.0.0.1:${port[1]}" \
    --peer-cert-file server.pem --peer-key-file server.key --peer-trusted-ca-file ca.pem --peer-client-cert-auth
  wait_healthy etcd 60 engine_healthy
}
engine_healthy() {
  curl -fsS -m 5 --cacert "$TLS/ca.pem" --cert "$TLS/client.pem" --key "$TLS/client.key" "https://$(address etcd)/health"
}
engine_version() { echo "${ETCD#etcd-}"; }
engine_env() { :; }
