// The models that are served; GPU models are in the fleet. Counters are those of each controller that has worked: sum.
local p = import 'panels.libsonnet';

local resolutions = 'berth_controller_model_resolution_duration_seconds';
local ratio = 'berth_controller_estimate_to_peak_ratio';
local runtime = '{runtime=~"$runtime"}';
// Prometheus 3 spells the bucket's bound 1.0.
local tooSmall = 'sum%s (increase(' + ratio + '_bucket{runtime=~"$runtime", le=~"1|1.0"}[1d])) / (sum%s (increase(' + ratio + '_count' + runtime + '[1d])) > 0)';
local ratios(quantile) = [p.query('histogram_quantile(%g, sum by (le, runtime) (increase(%s_bucket%s[1d])))' % [quantile, ratio, runtime], '{{runtime}}')];

{
  grafanaDashboards+:: {
    'berth-models.json': p.dashboard(
      'models',
      'Models',
      'The models that pods serve: whether their size is known, and how good estimates were.',
      [p.filter('runtime', ratio + '_count')],
      [
        p.row('Now'),
        p.stat('Pods without a size', 'Pods that wait because the size of their model is not known yet.', 'short', 'sum(max by (reason, age) (berth_pending_pods{reason="model-unknown"}))'),
        p.stat('Looked up', 'Times that a model was looked up, in the last hour.', 'short', 'sum(increase(berth_controller_model_resolutions_total[1h]))'),
        p.stat('Peaks written', 'Times that a measured peak was written to a profile, in the last day.', 'short', 'sum(increase(berth_controller_observed_peaks_total[1d]))'),
        p.stat('Estimates compared', 'Pods whose estimate was compared with their peak, in the last day.', 'short', 'sum(increase(%s_count%s[1d]))' % [ratio, runtime]),
        p.stat('Estimates too small', 'Of these, the part whose estimate was less than the measured peak.', 'percentunit', tooSmall % ['', '']),
        p.stat('Overusing pods', 'Pods that hold more than they booked, by more than 256Mi on a GPU.', 'short', 'max(berth_fleet_overusing_pods)', red=1),

        p.row('Sizes'),
        p.lines('Look-ups by reason', 'Times that a model was looked up in the hour before, by the reason that its profile got.', 'short', [p.query('sum by (reason) (increase(berth_controller_model_resolutions_total[1h]))', '{{reason}}')]),
        p.lines('Time of a look-up', 'How long a look-up took, retries within one attempt included, over the hour before.', 's', [
          p.query('histogram_quantile(%g, sum by (le) (rate(%s_bucket[1h])))' % [q, resolutions], 'less than this: %g%%' % (100 * q))
          for q in [0.5, 0.99]
        ]),
        p.lines('Pods without a size', 'Pods that wait because the size of their model is not known yet, by age.', 'short', [p.query('max by (age) (berth_pending_pods{reason="model-unknown"})', '{{age}}')]),
        p.lines('Peaks written', 'Times that a measured peak was written to a profile, in the hour before.', 'short', [p.query('sum(increase(berth_controller_observed_peaks_total[1h]))', 'peaks')]),

        p.row('Estimates, of pods that do not say their memory themselves'),
        p.lines('Median of estimate over peak', 'Of the pods of the day before, by runtime. Above 1 the estimate was larger than the measured peak.', 'short', ratios(0.5)),
        p.lines('Tenth of the pods below', 'A tenth of the pods of the day before had less than this of their peak estimated, by runtime. Below 1 the estimate was too small.', 'short', ratios(0.1)),
        p.lines('Estimates too small', 'The part of the pods of the day before whose estimate was less than their peak, by runtime.', 'percentunit', [p.query(tooSmall % [' by (runtime)', ' by (runtime)'], '{{runtime}}')]),
        p.lines('Pods compared', 'Pods whose estimate was compared with their peak, in the day before, by runtime.', 'short', [p.query('sum by (runtime) (increase(%s_count%s[1d]))' % [ratio, runtime], '{{runtime}}')]),
      ],
    ),
  },
}
