/** The numbered documents of an instance, and where it stands among them. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'

export type Revision = Schemas['RevisionOut']
export type Revisions = Schemas['RevisionsOut']
export type Standing = Schemas['StandingOut']
export type Diff = Schemas['DiffOut']

export function listRevisions(instanceId: string, cursor: string | null, signal?: AbortSignal): Promise<Revisions> {
  const path = { instance_id: instanceId }
  return api.get('/instances/{instance_id}/revisions', { path, query: { cursor }, ...(signal && { signal }) })
}

export async function createRevision(
  instanceId: string,
  revision: { document: Record<string, unknown>; note: string },
  idempotencyKey: string,
): Promise<Revision> {
  const path = { instance_id: instanceId }
  return api.post('/instances/{instance_id}/revisions', { path, body: revision, idempotencyKey })
}

export async function publishRevision(id: string): Promise<void> {
  await api.post('/revisions/{revision_id}/publish', { path: { revision_id: id } })
}

export async function rollBack(instanceId: string, number: number): Promise<void> {
  await api.post('/instances/{instance_id}/rollback', { path: { instance_id: instanceId }, body: { number } })
}

export function diffRevision(id: string, against: number | null, signal: AbortSignal): Promise<Diff> {
  return api.get('/revisions/{revision_id}/diff', { path: { revision_id: id }, query: { against }, signal })
}
