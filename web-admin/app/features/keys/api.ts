/** Keys for programs that call the API in the tenant's name. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type ApiKey = Schemas['ApiKeyOut']
export type ApiKeyMade = Schemas['ApiKeyMade']
export type Scope = Schemas['ApiKeyIn']['scopes'][number]

export function listKeys(cursor: string | null, signal: AbortSignal): Promise<Page<ApiKey>> {
  return api.get('/api-keys', { query: { cursor }, signal })
}

export function makeKey(key: Schemas['ApiKeyIn'], idempotencyKey: string): Promise<ApiKeyMade> {
  return api.post('/api-keys', { body: key, idempotencyKey })
}

export async function revokeKey(id: string): Promise<void> {
  await api.delete('/api-keys/{key_id}', { path: { key_id: id } })
}
