# shellcheck shell=bash
# The Kubernetes API: a kube-apiserver with its admission and RBAC. There is no controller, scheduler or node behind
# it, so what a test creates there stays as it is and nothing runs.

KUBE_APISERVER=kube-apiserver-1.34.4
KUBE_ADMIN=$TLS/kube-admin # a certificate of the group that may do everything
KUBE_CONFIG=$STATE/secrets/kubeconfig

engine_needs() { echo etcd; }

engine_install() {
  local version=${KUBE_APISERVER#kube-apiserver-} stamp=k8s.io/component-base/version
  fetch "$KUBE_APISERVER" go_main "$STACK_DIR/kubernetes/apiserver" kube-apiserver \
    "-X $stamp.gitVersion=v$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=34 -X $stamp.gitTreeState=clean"
}

engine_start() {
  local dir port
  dir=$(data_dir kubernetes)
  port=$(ports kubernetes 1)
  tls_copy "$dir"
  kube_keys "$dir"
  kube_config "$port"
  # Without controllers no namespace gets a ServiceAccount `default`: a pod must name one that was created.
  start_process kubernetes "$(fetched $KUBE_APISERVER)/kube-apiserver" \
    --bind-address 127.0.0.1 --secure-port "$port" --advertise-address 127.0.0.1 --endpoint-reconciler-type none \
    --tls-cert-file server.pem --tls-private-key-file server.key --client-ca-file ca.pem --anonymous-auth=false \
    --etcd-servers "https://$(address etcd)" --etcd-cafile ca.pem --etcd-certfile server.pem --etcd-keyfile server.key \
    --authorization-mode RBAC --enable-admission-plugins PodSecurity,ServiceAccount \
    --service-account-issuer https://kubernetes.default.svc --service-account-signing-key-file accounts.key \
    --service-account-key-file accounts.pub --service-cluster-ip-range 10.96.0.0/24
  wait_healthy kubernetes 120 engine_healthy
}

# kube_keys DIR: what signs the tokens of ServiceAccounts, and the certificate of the administrator.
kube_keys() {
  if [[ ! -s $1/accounts.pub ]]; then
    (umask 077; openssl genrsa -out "$1/accounts.key" 2048) 2>/dev/null
    openssl rsa -in "$1/accounts.key" -pubout -out "$1/accounts.pub" 2>/dev/null
    give_to_stack "$1/accounts.key" "$1/accounts.pub"
  fi
  if [[ ! -s $KUBE_ADMIN.pem ]]; then
    with_lock "$TLS/.lock" tls_issue kube-admin 'stack-admin/O=system:masters' 'extendedKeyUsage=clientAuth'
  fi
}

kube_config() {
  (umask 077; cat >"$KUBE_CONFIG") <<CONF
apiVersion: v1
kind: Config
current-context: stack
contexts: [{name: stack, context: {cluster: stack, user: stack-admin}}]
clusters: [{name: stack, cluster: {server: "https://127.0.0.1:$1", certificate-authority: "$TLS/ca.pem"}}]
users: [{name: stack-admin, user: {client-certificate: "$KUBE_ADMIN.pem", client-key: "$KUBE_ADMIN.key"}}]
CONF
}

engine_healthy() {
  curl -fsS -m 10 --cacert "$TLS/ca.pem" --cert "$KUBE_ADMIN.pem" --key "$KUBE_ADMIN.key" \
    "https://$(address kubernetes)/readyz"
}
engine_version() { echo "${KUBE_APISERVER#kube-apiserver-}"; }
engine_env() {
  export_line STACK_KUBE_URL "https://$(address kubernetes)"
  export_line STACK_KUBE_CA "$TLS/ca.pem"
  export_line STACK_KUBECONFIG "$KUBE_CONFIG"
}
