/** Releases of the agent, and how they are brought out. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Release = Schemas['ReleaseOut']
export type Rollout = Schemas['RolloutOut']
export type RolloutIn = Schemas['RolloutIn']
export type RolloutMember = Schemas['RolloutMemberOut']
export type ReleaseIn = Schemas['ReleaseIn']
export type LogLevel = NonNullable<Schemas['ReleaseSettings']['log_level']>
export type RolloutAction = 'pause' | 'resume' | 'stay' | 'goBack'

export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warning', 'error']

export async function createRelease(release: ReleaseIn, idempotencyKey: string): Promise<void> {
  await api.post('/releases', { body: release, idempotencyKey })
}

export function listReleases(cursor: string | null, signal: AbortSignal): Promise<Page<Release>> {
  return api.get('/releases', { query: { cursor }, signal })
}

export function listRollouts(cursor: string | null, signal: AbortSignal): Promise<Page<Rollout>> {
  return api.get('/rollouts', { query: { cursor }, signal })
}

export async function startRollout(rollout: RolloutIn, idempotencyKey: string): Promise<void> {
  await api.post('/rollouts', { body: rollout, idempotencyKey })
}

export async function actOnRollout(id: string, action: RolloutAction): Promise<void> {
  const path = { rollout_id: id }
  if (action === 'pause') await api.post('/rollouts/{rollout_id}/pause', { path })
  else if (action === 'resume') await api.post('/rollouts/{rollout_id}/resume', { path })
  else await api.post('/rollouts/{rollout_id}/abort', { path, body: { roll_back: action === 'goBack' } })
}

export function listFailed(id: string, cursor: string | null, signal: AbortSignal): Promise<Page<RolloutMember & { id: string }>> {
  return api
    .get('/rollouts/{rollout_id}/members', { path: { rollout_id: id }, query: { cursor, state: 'failed' }, signal })
    .then(({ items, next }) => ({ items: items.map((member) => ({ ...member, id: member.instance_id })), next: next ?? null }))
}
