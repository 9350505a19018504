/** How far a rollout is, and what may be done with it. */

import type { Rollout, RolloutAction } from './api'

export interface Progress {
  /** Members that have the release and are well, or are being watched. */
  there: number
  failed: number
  total: number
}

export function progressOf({ members }: Rollout): Progress {
  const count = (state: string) => members[state] ?? 0
  const total = Object.values(members).reduce((sum, each) => sum + each, 0)
  return { there: count('good') + count('moved'), failed: count('failed'), total }
}

export function actionsFor({ state }: Rollout): RolloutAction[] {
  if (state === 'running') return ['pause', 'stay', 'goBack']
  if (state === 'paused') return ['resume', 'stay', 'goBack']
  return []
}
