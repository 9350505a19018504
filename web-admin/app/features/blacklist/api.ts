/** Whom the tenant's bots do not hear. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Entry = Schemas['EntryOut']
export type EntryIn = Schemas['EntryIn']
export type Standing = Schemas['BlacklistOut']
export type BulkResult = Schemas['BulkOut']

export function listEntries(
  platformId: string,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Entry>> {
  return api.get('/blacklist', { query: { cursor, platform_id: platformId.trim() || null }, signal })
}

export function getStanding(signal: AbortSignal): Promise<Standing> {
  return api.get('/blacklist/standing', { signal })
}


/** All of it under one version, or none of it. */
export function addEntries(add: EntryIn[]): Promise<BulkResult> {
  return api.post('/blacklist/bulk', { body: { add, remove: [] } })
}

export function removeEntries(remove: string[]): Promise<BulkResult> {
  return api.post('/blacklist/bulk', { body: { add: [], remove } })
}
