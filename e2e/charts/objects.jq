# Objects in an order of their own, one line each field, without what Helm alone puts there: so that two ways to install can be
# compared. $namespace is where an object lives that names no namespace and needs one.
[.[]
  | del(.metadata.labels["helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"])
  # Of Helm alone as well: its own tests. And a chart has no way to make the namespace that its release is kept in.
  | select(.metadata.annotations["helm.sh/hook"] == null and .kind != "Namespace")
  | if .kind == "Role" or .kind == "RoleBinding" then .metadata.namespace //= $namespace else . end]
| sort_by(.kind, .metadata.namespace, .metadata.name)
