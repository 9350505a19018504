/** One instance: how it stands, what happened to it, what may be done with it. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Instance, Page } from '../../api/types'

export type Happening = Schemas['TimelineOut']
/** Which lines of the timeline. */
export type About = Schemas['About']
/** Where the address takes the action's name. */
export type InstanceAction = 'start' | 'stop' | 'restart' | 'hibernate'

export function getInstance(id: string, signal: AbortSignal): Promise<Instance> {
  return api.get('/instances/{instance_id}', { path: { instance_id: id }, signal })
}

export async function createInstance(name: string, idempotencyKey: string): Promise<void> {
  await api.post('/instances', { body: { name }, idempotencyKey })
}

export async function actOnInstance(id: string, action: InstanceAction): Promise<void> {
  await api.post(`/instances/{instance_id}/${action}`, { path: { instance_id: id } })
}

export async function rotateSecrets(id: string): Promise<void> {
  await api.post('/instances/{instance_id}/secrets/rotate', { path: { instance_id: id } })
}

export async function deleteInstance(id: string): Promise<void> {
  await api.delete('/instances/{instance_id}', { path: { instance_id: id } })
}

export function listTimeline(
  id: string,
  about: About,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Happening>> {
  return api.get('/instances/{instance_id}/timeline', { path: { instance_id: id }, query: { about, cursor }, signal })
}

/** The end of the log and what comes behind it, as it comes. */
export function openLog(id: string, tail: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  return api.stream('/instances/{instance_id}/logs', {
    path: { instance_id: id },
    query: { tail, follow: true },
    signal,
  })
}
