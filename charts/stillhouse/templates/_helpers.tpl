{{- define "stillhouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: longer names are made of it. */}}
{{- define "stillhouse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "stillhouse.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stillhouse.operator" -}}
{{- include "stillhouse.fullname" . }}-operator
{{- end -}}

{{/* The role of gateways' accounts, which the operator binds to each. */}}
{{- define "stillhouse.gateway" -}}
{{- include "stillhouse.fullname" . }}-gateway
{{- end -}}

{{- define "stillhouse.account" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "stillhouse.operator" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* What chooses the operator's pods: never changes. The component sets them apart from the pods of models. */}}
{{- define "stillhouse.selector" -}}
app.kubernetes.io/name: {{ include "stillhouse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "stillhouse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "stillhouse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* An image as the operator relocates it (resources/images.py): another registry in the place of its own. */}}
{{- define "stillhouse.relocated" -}}
{{- $image := include "stillhouse.image" . -}}
{{- with (index . 0).Values.images.registry -}}
{{- printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $image "") -}}
{{- else -}}
{{- $image -}}
{{- end -}}
{{- end -}}

{{/* stillhouse.image (list $ "worker") */}}
{{- define "stillhouse.image" -}}
{{- $image := index (index . 0).Values.images (index . 1) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 0).Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "stillhouse.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "stillhouse.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "stillhouse.metrics" -}}
{{- include "stillhouse.fullname" . }}-metrics
{{- end -}}

{{/* "true" where the metrics API runs. `auto`: not with watchNamespace, since it needs a ClusterRole. */}}
{{- define "stillhouse.metricsEnabled" -}}
{{- if eq (toString .Values.metricsAPI.enabled) "auto" -}}
{{- not .Values.watchNamespace -}}
{{- else -}}
{{- .Values.metricsAPI.enabled -}}
{{- end -}}
{{- end -}}

{{/* "true" where the operator may look whose the external metrics are: that needs a ClusterRole, too. */}}
{{- define "stillhouse.metricsLook" -}}
{{- or (not .Values.watchNamespace) (eq (include "stillhouse.metricsEnabled" .) "true") -}}
{{- end -}}

{{- define "stillhouse.metricsSelector" -}}
app.kubernetes.io/name: {{ include "stillhouse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: metrics
{{- end -}}

{{- define "stillhouse.metricsAccount" -}}
{{- if .Values.metricsAPI.serviceAccountName -}}
{{- .Values.metricsAPI.serviceAccountName -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "stillhouse.metrics" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* Where the metrics API is: what serves it and what removes it must mean the same. */}}
{{- define "stillhouse.metricsPlace" -}}
- --own-namespace={{ .Release.Namespace }}
- --service={{ include "stillhouse.metrics" . }}
- --secret={{ include "stillhouse.metrics" . }}
- --log-level={{ .Values.logLevel }}
{{- end -}}

{{- define "stillhouse.metricsReads" -}}
- apiGroups: [stillhouse.io]
  resources: [distilledmodels]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end -}}

{{/* Whose the external metrics are. Where the metrics API is turned off, what it left is removed. */}}
{{- define "stillhouse.lookRule" -}}
- apiGroups: [apiregistration.k8s.io]
  resources: [apiservices]
  resourceNames: [v1beta1.external.metrics.k8s.io]
  verbs: [{{ if ne (include "stillhouse.metricsEnabled" .) "true" }}delete, {{ end }}get]
{{- end -}}

{{/* As which user, from where and on which nodes: of every pod of the release. */}}
{{- define "stillhouse.placement" -}}
securityContext:
  {{- include "stillhouse.podSecurity" . | nindent 2 }}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* ClusterSettings of stillhouse.resources.wanted, as JSON. */}}
{{- define "stillhouse.settings" -}}
{{- dict
      "serve_image" (include "stillhouse.image" (list . "serve"))
      "worker_image" (include "stillhouse.image" (list . "worker"))
      "serve_gpu_image" (include "stillhouse.image" (list . "serveNvidia"))
      "gateway_image" (include "stillhouse.image" (list . "gateway"))
      "gateway_role" (printf "%s/%s" (ternary "Role" "ClusterRole" (ne .Values.watchNamespace "")) (include "stillhouse.gateway" .))
      "edge_packages" .Values.edge.packages
      "api_server_ports" .Values.networkPolicy.apiServerPorts
      "api_server_cidrs" .Values.networkPolicy.apiServerCidrs
      "image_registry" .Values.images.registry
      "monitors" .Values.metrics.models.serviceMonitors
      "monitor_interval" .Values.metrics.models.interval
      "monitor_labels" .Values.metrics.models.labels
      "monitoring_namespace" .Values.metrics.models.namespace
      "store_claim" .Values.store.claim
      "operator_namespace" .Release.Namespace
      "sources" .Values.sources
      "pull_secrets" .Values.images.pullSecrets
      "cpu_target_percent" (int .Values.scaling.cpuTargetPercent)
      "scale_down_after_s" (int .Values.scaling.scaleDownAfterSeconds)
      "metrics_api" (eq (include "stillhouse.metricsEnabled" .) "true")
      "metrics_service" (ternary (include "stillhouse.metrics" .) "" (eq (include "stillhouse.metricsLook" .) "true"))
      "build_memory" .Values.build.memory
      "build_cpu" (toString .Values.build.cpu)
      "job_deadline_s" (int .Values.build.deadlineSeconds)
      "max_concurrent_builds" (int .Values.build.maxConcurrent)
      "source_hosts" .Values.fetching.allowedHosts
      "source_networks" .Values.fetching.allowedNetworks
      "source_limit" .Values.fetching.maxSize
      "credentials" .Values.credentials.enabled
    | toPrettyJson -}}
{{- end -}}

{{/*
Pods apart from each other: over nodes by a constraint, over zones by a wish, since a constraint over zones turns both off where nodes
have no zone. Takes (context, name of the selector's template). Somebody's own `affinity` is in place of the wish.
*/}}
{{- define "stillhouse.apart" -}}
{{- $context := first . -}}
{{- $selector := include (last .) $context -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- if not $context.Values.affinity }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 50
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
{{- end }}
{{- end }}
