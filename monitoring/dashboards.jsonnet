// What Grafana reads, a file for each dashboard.
(import 'mixin/mixin.libsonnet').grafanaDashboards
