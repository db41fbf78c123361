{{- define "name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* At most 50 characters, so that every suffix given to it still fits into 63. */}}
{{- define "fullname" -}}
{{- $name := include "name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{ .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "selectorLabels" -}}
app.kubernetes.io/name: {{ include "name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "labels" -}}
{{ include "selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "fullname" .) }}
{{- else -}}
{{ required "serviceAccount.create is false: write the name of an account of yours in serviceAccount.name" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* image (list $ IMAGE): the reference of one of the two images. */}}
{{- define "image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* The namespace of the operator's own Role, or of nothing when it watches all. */}}
{{- define "roleKind" -}}
{{ .Values.watchNamespace | empty | ternary "ClusterRole" "Role" }}
{{- end }}

{{- /*
What a schema could refuse only by showing its pattern is refused here, saying
what to write instead.
*/}}
{{- define "validate" -}}
{{- with .Values.defaultConnection.url }}
{{- if not (regexMatch "^https?://[^/[:space:]]+[^[:space:]]*$" .) }}
{{- fail (printf "defaultConnection.url is %q: write an http:// or https:// address, such as http://conductor.conductor.svc:8080/api" .) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" .Values.tick) }}
{{- fail (printf "tick is %q: write a duration with its unit, such as 5s" .Values.tick) }}
{{- end }}
{{- $level := "([A-Za-z0-9_:]+=)?(off|error|warn|info|debug|trace)" }}
{{- if not (regexMatch (printf "(?i)^%s(,%s)*$" $level $level) .Values.log.level) }}
{{- fail (printf "log.level is %q: write error, warn, info, debug or trace, or one per target as in info,hyper=warn" .Values.log.level) }}
{{- end }}
{{- $set := dict "DEFAULT_CONDUCTOR_URL" "defaultConnection.url" "SIDECAR_IMAGE" "sidecar.image" "SIDECAR_IMAGE_PULL_POLICY" "sidecar.image.pullPolicy" "SIDECAR_UPGRADES" "sidecar.upgrades.policy" "SIDECAR_UPGRADES_AT_ONCE" "sidecar.upgrades.atOnce" "WATCH_NAMESPACE" "watchNamespace" "TICK" "tick" "CONDUCTOR_REQUESTS_PER_SECOND" "sampling.requestsPerSecond" "SCRAPES_PER_SECOND" "sampling.scrapesPerSecond" "SCRAPE_WHOLE_POOLS" "sampling.wholePools" "LOG_LEVEL" "log.level" "LOG_FORMAT" "log.format" "LISTEN" "" }}
{{- range .Values.extraEnv }}
{{- if hasKey $set .name }}
{{- fail (printf "extraEnv sets %s, which this chart sets itself: %s" .name (get $set .name | empty | ternary "the probes and monitors rely on it" (printf "use %s" (get $set .name)))) }}
{{- end }}
{{- end }}
{{- end }}
