// Alerts, recording rules and dashboards of Berth, in the layout of the kubernetes mixins.
(import 'config.libsonnet') +
(import 'alerts/alerts.libsonnet') +
(import 'rules/rules.libsonnet') +
(import 'dashboards/fleet.libsonnet') +
(import 'dashboards/node.libsonnet') +
(import 'dashboards/pending.libsonnet') +
(import 'dashboards/models.libsonnet')
