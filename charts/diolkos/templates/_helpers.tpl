{{/* What finds the Pods of a component; it must never change. Of: the component. */}}
{{- define "diolkos.selector" -}}
app.kubernetes.io/part-of: diolkos
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Metadata of an object. Of: root, name, component, annotations, cluster (it has no namespace), namespace (another one). */}}
{{- define "diolkos.metadata" -}}
{{- $labels := dict "app.kubernetes.io/part-of" "diolkos" }}
{{- with .component }}
{{- $_ := set $labels "app.kubernetes.io/component" . }}
{{- end }}
{{- $_ := set $labels "app.kubernetes.io/instance" .root.Release.Name }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .namespace | default .root.Release.Namespace }}
{{- end }}
labels:
  {{- toYaml (merge $labels .root.Values.labels) | nindent 2 }}
{{- with mergeOverwrite (dict) .root.Values.annotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where Secrets may be read if not everywhere, with commas between. */}}
{{- define "diolkos.secretNamespaces" -}}
{{ prepend .Values.rbac.secretNamespaces .Release.Namespace | uniq | join "," }}
{{- end }}

{{/* An object that is a file of this chart. Of: root, the object and its namespace; without that it has none. */}}
{{- define "diolkos.copied" -}}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $namespace := index . 2 -}}
apiVersion: {{ $object.apiVersion }}
kind: {{ $object.kind }}
metadata:
  {{- include "diolkos.metadata" (dict "root" $root "name" $object.metadata.name "cluster" (empty $namespace) "namespace" $namespace) | nindent 2 }}
{{ toYaml (omit $object "apiVersion" "kind" "metadata") }}
{{- end }}

{{/* Name of an image. Of: root and the image. */}}
{{- define "diolkos.image" -}}
{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Metadata of a component's Pods. Of: the component and its values. */}}
{{- define "diolkos.podMetadata" -}}
{{- $selector := include "diolkos.selector" (index . 0) | fromYaml }}
{{- $of := index . 1 -}}
labels:
  {{- toYaml (merge $selector $of.podLabels) | nindent 2 }}
{{- with $of.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a component's Pods run. Of: root, the component and its values. */}}
{{- define "diolkos.scheduling" -}}
{{- $component := index . 1 }}
{{- $of := index . 2 }}
{{- $pod := dict }}
{{- with (index . 0).Values.imagePullSecrets }}
{{- $_ := set $pod "imagePullSecrets" . }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index $of $field }}
{{- $_ := set $pod $field . }}
{{- end }}
{{- end }}
{{- $spread := list }}
{{- range $of.topologySpreadConstraints }}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "diolkos.selector" $component | fromYaml)) }}
{{- $spread = append $spread (mergeOverwrite $own .) }}
{{- end }}
{{- with $spread }}
{{- $_ := set $pod "topologySpreadConstraints" . }}
{{- end }}
{{- with $pod }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* What a PodDisruptionBudget lets go, which is one bound of two. Of: its values. */}}
{{- define "diolkos.disruptions" -}}
{{ toYaml (omit . "enabled" (ternary "maxUnavailable" "enabled" (hasKey . "minAvailable"))) }}
{{- end }}

{{/* What every container may not do. */}}
{{- define "diolkos.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Readiness and life of a container, asked at its admin port. */}}
{{- define "diolkos.probes" -}}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 1
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  failureThreshold: 6
{{- end }}
