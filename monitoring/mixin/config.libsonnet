// What a site may change: (import 'mixin.libsonnet') + { _config+:: { podsPendingAges: '10m|1h' } }.
{
  _config+:: {
    // Where runbooks are; %s is the name of the alert.
    runbookURL: 'https://github.com/berth-dev/berth/blob/main/docs/runbooks/%s.md',
    // The ages of waiting pods, of 0s, 1m, 10m and 1h, from which on BerthPodsPendingLong fires.
    podsPendingAges: '1h',
    // For how long an alert goes on that was firing when its metric went away: the scheduler that leads tells most of them,
    // and another one takes some time to take over and to be scraped.
    keepFiringFor: '5m',
  },
}
