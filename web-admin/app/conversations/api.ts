/** The tenant's conversations. */

import { api } from '../api/api'
import type { Conversation, Message, Page } from '../api/types'

export type OwnershipAction = 'take-over' | 'hand-back' | 'close'

export function listConversations(
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Conversation>> {
  return api.get('/conversations', { query: { cursor }, signal })
}

export function getConversation(id: string, signal: AbortSignal): Promise<Conversation> {
  return api.get(`/conversations/${id}`, { signal })
}

/** Newest first; the cursor leads to older ones. */
export function listMessages(
  id: string,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Message>> {
  return api.get(`/conversations/${id}/messages`, { query: { cursor, order: 'desc' }, signal })
}

export async function sendReply(id: string, text: string, idempotencyKey: string): Promise<void> {
  const body = { segments: [{ type: 'text', text }] }
  await api.post(`/conversations/${id}/messages`, { body, idempotencyKey })
}

/** Refused when somebody else changed the owner since this version was read. */
export async function changeOwner(
  { id, owner_version }: Conversation,
  action: OwnershipAction,
): Promise<void> {
  await api.post(`/conversations/${id}/${action}`, { body: { owner_version } })
}
