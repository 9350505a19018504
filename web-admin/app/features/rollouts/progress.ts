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

export function isAbort(action: RolloutAction): boolean {
  return action === 'stay' || action === 'goBack'
}

export interface Wave {
  number: number
  /** Up to which share of all bots it goes, in percent; 0 for the canaries. */
  share: number
  standing: 'done' | 'current' | 'ahead'
  waiting: number
  moved: number
  good: number
  /** Also those that went back. */
  failed: number
  began: string | null
}

export function wavesOf({ waves, wave: current, members_by_wave: members, began, ended_at: endedAt }: Rollout): Wave[] {
  return waves.map((share, index) => {
    const count = (state: string) => members[index]?.[state] ?? 0
    return {
      number: index + 1,
      share,
      standing: standingOf(index, current, endedAt !== null),
      waiting: count('waiting'),
      moved: count('moved'),
      good: count('good'),
      failed: count('failed') + count('rolled_back'),
      began: began[index] ?? null,
    }
  })
}

function standingOf(index: number, current: number, hasEnded: boolean): Wave['standing'] {
  if (index > current) return 'ahead'
  return index < current || hasEnded ? 'done' : 'current'
}
