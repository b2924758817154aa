// Alerts and recording rules of Berth, in the layout of the kubernetes mixins.
(import 'config.libsonnet') +
(import 'alerts/alerts.libsonnet') +
(import 'rules/rules.libsonnet')
