/** Who runs models for the tenant's bots. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Provider = Schemas['ProviderOut']
export type ProviderKind = Provider['kind']
export type ProviderCheck = Schemas['ProviderCheckOut']

/** A tenant has at most 20, which is less than one page. */
const ALL = 200

export function listProviders(cursor: string | null, signal: AbortSignal): Promise<Page<Provider>> {
  return api.get('/providers', { query: { cursor }, signal })
}

export async function listAllProviders(signal: AbortSignal): Promise<Provider[]> {
  return (await api.get('/providers', { query: { limit: ALL }, signal })).items
}

export async function addProvider(
  provider: { name: string; kind: ProviderKind; base_url: string; api_key: string | null },
  idempotencyKey: string,
): Promise<void> {
  await api.post('/providers', { body: provider, idempotencyKey })
}

export async function changeProvider(
  id: string,
  change: { name: string; base_url?: string; api_key?: string },
): Promise<void> {
  await api.patch('/providers/{provider_id}', { path: { provider_id: id }, body: change })
}

export async function deleteProvider(id: string): Promise<void> {
  await api.delete('/providers/{provider_id}', { path: { provider_id: id } })
}

export function checkProvider(id: string): Promise<ProviderCheck> {
  return api.post('/providers/{provider_id}/check', { path: { provider_id: id } })
}
