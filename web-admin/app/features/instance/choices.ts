/** What may be done with an instance as it stands; the server has the last word. */

import type { Instance } from '../../api/types'
import type { InstanceAction } from './api'

export type Choice = InstanceAction | 'rotate' | 'delete'

export function actionsFor({ desired, asleep_at: asleepAt }: Instance): Choice[] {
  if (desired === 'deleted') return []
  if (desired !== 'running' || asleepAt !== null) return ['start', 'delete']
  return ['restart', 'stop', 'hibernate', 'rotate', 'delete']
}

/** Only starting disturbs nobody. */
export function needsAsking(choice: Choice): boolean {
  return choice !== 'start'
}
