{{- /* What every process is told; nothing of it is secret. */ -}}
{{- define "botyard.env" -}}
{{- $v := .Values }}
- { name: BOTYARD_PUBLIC_URL, value: {{ required "set publicUrl" $v.publicUrl | trimSuffix "/" | quote }} }
- { name: BOTYARD_HOST, value: "0.0.0.0" }
- { name: BOTYARD_PORT, value: "8080" }
- { name: BOTYARD_PROBE_PORT, value: "8080" }
- { name: BOTYARD_DRAIN_NOTICE_S, value: {{ $v.api.drainNoticeSeconds | quote }} }
- { name: BOTYARD_DATA_DIR, value: /data }
- { name: BOTYARD_CONTROL_URL, value: {{ include "botyard.controlUrl" . | quote }} }
- { name: BOTYARD_PROVISIONER, value: kubernetes }
- { name: BOTYARD_KUBERNETES__IMAGE, value: {{ include "botyard.image" (list . $v.agents.image "agents.image") | quote }} }
- { name: BOTYARD_KUBERNETES__NAME, value: {{ $v.agents.place | quote }} }
- { name: BOTYARD_KUBERNETES__CONTROL_NAMESPACE, value: {{ .Release.Namespace | quote }} }
- { name: BOTYARD_KUBERNETES__CONTROL_PORT, value: "8080" }
- { name: BOTYARD_KUBERNETES__METRICS_NAMESPACE, value: {{ $v.monitoring.namespace | quote }} }
- { name: BOTYARD_KUBERNETES__POD_SECURITY, value: {{ $v.agents.podSecurity | quote }} }
- { name: BOTYARD_KUBERNETES__NODES, value: {{ $v.agents.nodes | toJson | quote }} }
- { name: BOTYARD_KUBERNETES__TAINTS, value: {{ $v.agents.taints | toJson | quote }} }
{{- if not $v.trial.enabled }}
- { name: BOTYARD_MEDIA_URL, value: {{ required "set media.url, or trial.enabled for a look" $v.media.url | quote }} }
- { name: BOTYARD_MEDIA_REGION, value: {{ $v.media.region | quote }} }
{{- with $v.media.endpoint }}
- { name: BOTYARD_MEDIA_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- end }}
{{- range $name, $value := $v.settings }}
- { name: BOTYARD_{{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end }}

{{- /* The keys of the Secret that a process may read; only migrations are given the owner's. */ -}}
{{- define "botyard.secretKeys" -}}
{{- $s := .Values.secrets }}{{ $keys := list "database-url" "secret-keys" }}
{{- if or $s.redisUrl .Values.trial.enabled }}{{ $keys = append $keys "redis-url" }}{{ end }}
{{- if $s.smtpUrl }}{{ $keys = append $keys "smtp-url" }}{{ end }}
{{- if $s.mediaKeys }}{{ $keys = concat $keys (list "media-key" "media-secret") }}{{ end }}
{{- $keys | toJson }}
{{- end }}

{{- define "botyard.secretEnv" -}}
{{- range . }}
- { name: BOTYARD_{{ . | upper | replace "-" "_" }}_FILE, value: /run/secrets/botyard/{{ . }} }
{{- end }}
{{- end }}

{{- define "botyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "botyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* dict root, keys: what holds a pod's files */ -}}
{{- define "botyard.volumes" -}}
- name: secrets
  secret:
    secretName: {{ include "botyard.secret" .root }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
- { name: tmp, emptyDir: { sizeLimit: 256Mi } }
- name: data
  {{- if and .root.Values.trial.enabled .media }}
  persistentVolumeClaim: { claimName: {{ include "botyard.fullname" .root }}-trial-media }
  {{- else }}
  emptyDir: { sizeLimit: 256Mi }
  {{- end }}
{{- end }}

{{- define "botyard.mounts" -}}
- { name: secrets, mountPath: /run/secrets/botyard, readOnly: true }
- { name: tmp, mountPath: /tmp }
- { name: data, mountPath: /data }
{{- end }}

{{- /* dict root, part (the command), values, cluster (whether it calls the Kubernetes API) */ -}}
{{- define "botyard.deployment" -}}
{{- $root := .root }}{{ $name := printf "%s-%s" (include "botyard.fullname" .root) .part }}
{{- $keys := include "botyard.secretKeys" .root | fromJsonArray }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "botyard.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
spec:
  {{- if not (dig "autoscaling" "enabled" false .values) }}
  replicas: {{ if $root.Values.trial.enabled }}1{{ else }}{{ .values.replicas }}{{ end }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    rollingUpdate: { maxUnavailable: 0, maxSurge: 1 }
  selector:
    matchLabels:
      {{- include "botyard.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .part }}
  template:
    metadata:
      labels:
        {{- include "botyard.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .part }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: {{ .cluster }}
      enableServiceLinks: false
      # Parts stop one group after the other, 12 s each at most, and api announces it before.
      terminationGracePeriodSeconds: {{ add 45 $root.Values.api.drainNoticeSeconds }}
      securityContext:
        {{- include "botyard.podSecurity" 10001 | nindent 8 }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector: {{ toJson . }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations: {{ toJson . }}
      {{- end }}
      {{- if $root.Values.trial.enabled }}
      affinity: # one volume, one node
        podAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - topologyKey: kubernetes.io/hostname
              labelSelector:
                matchLabels:
                  {{- include "botyard.selector" $root | nindent 18 }}
                  app.kubernetes.io/component: trial-postgresql
      {{- else }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "botyard.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.part }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .part }}
          image: {{ include "botyard.image" (list $root $root.Values.image "image") | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ .part }}]
          env:
            {{- include "botyard.env" $root | trim | nindent 12 }}
            {{- include "botyard.secretEnv" $keys | trim | nindent 12 }}
          ports:
            - { name: http, containerPort: 8080, protocol: TCP }
          # Imports alone take seconds on a busy node.
          startupProbe:
            httpGet: { path: /healthz, port: http }
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: { path: /healthz, port: http }
            periodSeconds: 20
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: { path: /readyz, port: http }
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          resources: {{ toJson .values.resources }}
          securityContext:
            {{- include "botyard.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "botyard.mounts" $root | nindent 12 }}
      volumes:
        {{- include "botyard.volumes" (dict "root" $root "keys" $keys "media" true) | nindent 8 }}
{{- end }}
