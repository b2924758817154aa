// Metrics of the fleet are told by the scheduler that leads, whichever it is, so what says which one it was (instance, pod) is
// aggregated away: an alert that is firing must not end, and begin anew, because another one leads.
{
  prometheusAlerts+:: {
    local config = $._config,
    local alert(name, severity, expr, duration, summary, description, keep=true) = {
      alert: name,
      expr: expr,
      'for': duration,
      [if keep then 'keep_firing_for']: config.keepFiringFor,
      labels: { severity: severity },
      annotations: { summary: summary, description: description, runbook_url: config.runbookURL % name },
    },
    groups+: [
      {
        name: 'berth-scheduler',
        rules: [
          alert(
            'BerthSchedulerDown',
            'critical',
            'absent(berth_scheduler_places_pods)',
            '2m',
            'No scheduler of Berth leads.',
            'No scheduler says that it leads, so no pod that asks for GPU memory is placed. Either none runs, or none has the lease, or none can be scraped.',
            keep=false,
          ),
          alert(
            'BerthSchedulerPlacesNothing',
            'critical',
            'max(berth_scheduler_places_pods) == 0',
            '2m',
            'The scheduler of Berth leads and places nothing.',
            'It could not read what is booked, or admission policies are missing and onMissingPolicies is StopPlacing.',
          ),
          alert(
            'BerthPoliciesMissing',
            'critical',
            'min by (policy) (berth_scheduler_policy_in_force) == 0',
            '2m',
            'An admission policy of Berth is not in force.',
            'The policy {{ $labels.policy }} did not refuse what it must, or could not be tried, for two minutes. Others may forge requests, reports or allocations meanwhile.',
          ),
          alert(
            'BerthPodsPendingLong',
            'warning',
            'sum by (reason) (max by (reason, age) (berth_pending_pods{age=~"%s"})) > 0' % config.podsPendingAges,
            '5m',
            'Pods have waited long for GPU memory.',
            '{{ $value }} pods have waited longer than they should; what they wait for: {{ $labels.reason }}.',
          ),
        ],
      },
      {
        name: 'berth-controller',
        rules: [
          alert(
            'BerthControllerDown',
            'warning',
            'absent(berth_controller_observed_peaks_total) or max(leader_election_master_status{name="berth-controller"}) == 0',
            '5m',
            'No controller of Berth works.',
            'Sizes of new models are not looked up, so pods that name them wait; nobody is told of overuse or of GPUs that were not handed over. Pods with a known size are placed.',
            keep=false,
          ),
        ],
      },
      {
        name: 'berth-nodes',
        rules: [
          alert(
            'BerthAgentSilent',
            'warning',
            'max by (state) (berth_fleet_nodes{state="stale"}) > 0',
            '2m',
            'Agents of nodes with GPUs are silent.',
            'The agents of {{ $value }} nodes have not been heard of for longer than staleAfter, so these get no pods.',
          ),
          alert(
            'BerthAgentReportOld',
            'warning',
            'max by (node, pod) (berth_agent_report_age_seconds) > 60',
            '2m',
            'An agent cannot write what it sees.',
            'What is reported of node {{ $labels.node }} has not been what its agent ({{ $labels.pod }}) sees for {{ $value | humanizeDuration }}.',
            keep=false,
          ),
          alert(
            'BerthAgentsNotScraped',
            'warning',
            'absent(berth_agent_readings_total) and on () (sum(max by (state) (berth_fleet_nodes)) > 0)',
            '15m',
            'No agent of Berth is scraped.',
            'There are nodes with GPUs, and Prometheus gets no metrics of their agents, so alerts name no GPUs.',
            keep=false,
          ),
          alert(
            'BerthReportUnreadable',
            'warning',
            'max by (state) (berth_fleet_nodes{state="unreadable"}) > 0',
            '2m',
            'Reports of nodes with GPUs cannot be read.',
            'The GPUNodes of {{ $value }} nodes hold something that cannot be decoded, so these get no pods. No agent writes such a report: somebody else has written to the object.',
          ),
        ],
      },
      {
        name: 'berth-gpus',
        rules: [
          alert(
            'BerthGPUUnhealthy',
            'warning',
            // Agents say which; of models of which none does, because they are not scraped, the scheduler says how many.
            |||
              max by (node, UUID, gpu, model, reason) (berth_gpu_healthy{reason!~"MIGEnabled|MemoryNotSupported"}) == 0
              or on (model)
              max by (model) (berth_fleet_devices{state="unhealthy"}) > 0
            |||,
            '5m',
            'A GPU is unhealthy.',
            '{{ if $labels.UUID }}GPU {{ $labels.gpu }} ({{ $labels.UUID }}, {{ $labels.model }}) of node {{ $labels.node }} gets no pods: {{ $labels.reason }}.{{ else }}{{ $value }} GPUs {{ $labels.model }} get no pods.{{ end }}',
            keep=false,
          ),
          alert(
            'BerthGPUOverbooked',
            'critical',
            'max(berth_overbooked_devices) > 0',
            '1m',
            'More memory is booked on a GPU than it has.',
            'On {{ $value }} GPUs pods were promised more memory than there is, so one of them may run out of it.',
          ),
          alert(
            'BerthGPUContested',
            'warning',
            'max(berth_contested_devices) > 0',
            '2m',
            'A GPU is reported by more than one node.',
            '{{ $value }} devices are reported by more than one node, and get no pods on any. An agent, or somebody with the token of a node, says what is not so.',
          ),
          alert(
            'BerthMemoryOveruse',
            'warning',
            'max(berth_fleet_overusing_pods) > 0',
            '10m',
            'Pods hold more GPU memory than they booked.',
            '{{ $value }} pods hold more memory of a GPU than they booked, by more than 256Mi. Others on these GPUs may run out of it.',
          ),
          alert(
            'BerthMemoryNotReturned',
            'warning',
            'max by (model) (berth_fleet_gpu_memory_overdue_bytes) > 0',
            '5m',
            'GPU memory of pods that are gone is not free.',
            '{{ $value | humanize1024 }}B of GPUs {{ $labels.model }} are still held by processes whose pods have been gone for longer than memoryReturnTimeout.',
          ),
        ],
      },
    ],
  },
}
