# shellcheck shell=bash
# The stack's own certificate authority, a server certificate for localhost and
# a client certificate. Made anew for each stack. Sourced, never run.

CERT_USER=certuser # the client certificate's common name, a role in PostgreSQL
TLS=$STATE/tls

tls_init() { [[ -s $TLS/client.pem ]] || with_lock "$TLS/.lock" tls_make; }

tls_make() {
  [[ -s $TLS/client.pem ]] && return
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=sexton test CA' \
    -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout "$TLS/ca.key" -out "$TLS/ca.pem" 2>/dev/null
  tls_issue server localhost 'subjectAltName=DNS:localhost,IP:127.0.0.1' 'extendedKeyUsage=serverAuth,clientAuth'
  tls_issue client "$CERT_USER" "subjectAltName=DNS:$CERT_USER" 'extendedKeyUsage=clientAuth'
}

# tls_issue FILE COMMON_NAME EXTENSION...
tls_issue() {
  local file=$1 name=$2
  shift 2
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
    -keyout "$TLS/$file.key" -out "$TLS/$file.csr" 2>/dev/null
  openssl x509 -req -in "$TLS/$file.csr" -CA "$TLS/ca.pem" -CAkey "$TLS/ca.key" -CAcreateserial -days 30 \
    -extfile <(printf '%s\n' 'basicConstraints=CA:FALSE' 'keyUsage=digitalSignature' "$@") \
    -out "$TLS/$file.pem.new" 2>/dev/null
  chmod 600 "$TLS/$file.key"
  mv "$TLS/$file.pem.new" "$TLS/$file.pem"
}

# tls_copy DIR: the CA and the server's certificate and key, for an engine to read.
tls_copy() {
  tls_init
  cp "$TLS/ca.pem" "$TLS/server.pem" "$TLS/server.key" "$1"
  chmod 600 "$1/server.key"
  give_to_stack "$1"/{ca.pem,server.pem,server.key}
}
