#!/usr/bin/env bash
# The role of a search engine that may do what sexton needs for one purpose, and no more: prints its JSON.
#
#   search-role.sh read|upkeep ALIAS [elasticsearch|opensearch]
#
#   read     plan, `sexton visibility`: looks at the indices behind the alias and changes nothing. With `driver: ilm` only:
#            where sexton rolls itself, looking asks `_rollover?dry_run`, which an engine allows to nobody who may not roll
#   upkeep   the jobs visibility and reconcile, `sexton adopt`, `visibility rebuild`: rolls, deletes old indices, writes
#            and removes documents, replaces the index by an alias
#
# ALIAS is `index` of policies/visibility.yaml, such as temporal_visibility_v1. Elasticsearch: PUT the output to
# /_security/role/NAME; OpenSearch: PUT it to /_plugins/_security/api/roles/NAME. The script asks nobody and knows no
# password:
#
#   search-role.sh upkeep temporal_visibility_v1 |
#     curl --fail --config LOGIN --header 'content-type: application/json' --data-binary @- --request PUT \
#       https://elasticsearch.temporal:9200/_security/role/sexton
set -euo pipefail

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 64; }

(($# == 2 || $# == 3)) || usage
purpose=$1 alias=$2 engine=${3-elasticsearch}
# Nothing that would need an escape in JSON, and no pattern: it would be a wider one than meant.
[[ $alias =~ ^[a-z0-9][a-z0-9_.-]*$ ]] || { echo "search-role: \`$alias\` is no name of an alias" >&2; exit 64; }

case $engine-$purpose in
    elasticsearch-read)
        cluster='"monitor", "read_ilm", "indices:admin/template/get"'
        # A refresh makes visible to searches what was written; it changes nothing.
        indices='"monitor", "read", "view_index_metadata", "indices:admin/refresh*"'
        ;;
    elasticsearch-upkeep)
        cluster='"monitor", "manage_index_templates", "manage_ilm"'
        # `manage` has the making, closing and deleting of indices in it.
        indices='"read", "write", "manage"'
        ;;
    opensearch-read)
        cluster='"cluster_monitor", "indices:admin/template/get"'
        indices='"read", "indices_monitor", "indices:admin/mappings/get", "indices:admin/aliases/get", "indices:admin/get", "indices:admin/refresh*"'
        ;;
    opensearch-upkeep)
        cluster='"cluster_monitor", "cluster_composite_ops", "cluster_manage_index_templates"'
        indices='"crud", "create_index", "manage"'
        ;;
    *) usage ;;
esac

names="\"$alias\", \"$alias-*\""
if [[ $engine == elasticsearch ]]; then
    printf '{"cluster": [%s], "indices": [{"names": [%s], "privileges": [%s]}]}\n' "$cluster" "$names" "$indices"
else
    printf '{"cluster_permissions": [%s], "index_permissions": [{"index_patterns": [%s], "allowed_actions": [%s]}]}\n' \
        "$cluster" "$names" "$indices"
fi
