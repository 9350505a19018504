/** The channels of an instance. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Channel, Page } from '../../api/types'
import type { Settings } from './draft'
import type { Kind } from './kinds'

export type Check = Schemas['ChannelCheckOut']

export async function listKinds(signal: AbortSignal): Promise<Kind[]> {
  return (await api.get('/channel-kinds', { signal })).items
}

export function listChannels(
  instanceId: string,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Channel>> {
  const path = { instance_id: instanceId }
  return api.get('/instances/{instance_id}/channels', { path, query: { cursor }, signal })
}

export async function addChannel(
  instanceId: string,
  channel: { kind: string; name: string; settings: Settings },
  idempotencyKey: string,
): Promise<void> {
  const path = { instance_id: instanceId }
  await api.post('/instances/{instance_id}/channels', { path, body: channel, idempotencyKey })
}

export async function changeChannel(id: string, change: { name: string; settings: Settings }): Promise<void> {
  await api.patch('/channels/{channel_id}', { path: { channel_id: id }, body: change })
}

export async function deleteChannel(id: string): Promise<void> {
  await api.delete('/channels/{channel_id}', { path: { channel_id: id } })
}

export function checkChannel(id: string): Promise<Check> {
  return api.post('/channels/{channel_id}/check', { path: { channel_id: id } })
}
