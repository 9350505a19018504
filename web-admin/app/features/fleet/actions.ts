/** What an operator may do about an instance as it stands; the server has the last word. */

import type { Instance } from '../../api/types'
import type { FleetAction } from './api'

export function actionsFor({ desired, suspended_at: suspendedAt }: Instance): FleetAction[] {
  if (desired === 'deleted') return ['reconcile']
  if (suspendedAt !== null) return ['reconcile', 'resume']
  return desired === 'running' ? ['reconcile', 'restart', 'suspend'] : ['reconcile', 'suspend']
}
