/** What a state means at a glance; the words stand beside it, so colour never speaks alone. */

export type Tone = 'neutral' | 'good' | 'busy' | 'warning' | 'bad'

const TONES: Record<string, Tone> = {
  active: 'good',
  bot: 'good',
  done: 'good',
  connected: 'good',
  healthy: 'good',
  online: 'good',
  running: 'good',
  sent: 'good',
  configuring: 'busy',
  connecting: 'busy',
  human: 'busy',
  provisioning: 'busy',
  rolling_back: 'busy',
  queued: 'busy',
  sending: 'busy',
  starting: 'busy',
  stopping: 'busy',
  away: 'warning',
  busy: 'warning',
  degraded: 'warning',
  needs_information: 'warning',
  paused: 'warning',
  pending: 'warning',
  unconfirmed: 'warning',
  unknown: 'warning',
  waiting: 'warning',
  withheld: 'warning',
  crash_loop: 'bad',
  expired: 'bad',
  failed: 'bad',
  rejected: 'bad',
  rolled_back: 'bad',
  suspended: 'bad',
}

export function toneOf(state: string): Tone {
  return TONES[state] ?? 'neutral'
}
